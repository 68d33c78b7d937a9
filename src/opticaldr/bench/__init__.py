"""Speed, memory and error of this package beside the peers that are installed, in one run.

reference.py   float64 angular spectrum on a fine grid: what every engine is compared with
peers.py       the engines behind one signature; adapters to the packages of others
measure.py     wall time, and peak memory in a process of its own
rounds.py      engines in turn, and the row that their times make
optics.py      the cases of `bench optics`
predict.py     the cases of `bench predict`
"""
