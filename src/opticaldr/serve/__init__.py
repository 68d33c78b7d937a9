"""Web service: a page and a REST API about one lens; pictures and videos live in memory only."""
