// Small helpers around elements.

export const $ = (id) => document.getElementById(id);

/** Shows or hides an element. */
export function show(element, visible = true) {
  element.hidden = !visible;
}

/** Shows a sentence in an element, or hides the element if there is none. */
export function sentence(element, text) {
  if (text && element.textContent !== text) element.textContent = text;
  show(element, Boolean(text));
}

/** Tells screen readers what has changed. */
export function say(text) {
  $("say").textContent = text;
}

/** An HTML element; `content` are strings and elements. */
export function make(name, attributes = {}, ...content) {
  return fill(document.createElement(name), attributes, content);
}

/** An SVG element. */
export function draw(name, attributes = {}, ...content) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, content);
}

function fill(element, attributes, content) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...content);
  return element;
}

/** Puts a picture into an <img> and frees the one that it showed. */
export function putPicture(image, blob, alt) {
  const before = image.src;
  image.src = URL.createObjectURL(blob);
  image.alt = alt;
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
}

/** Takes the picture away from a canvas or an <img>. */
export function wipe(element) {
  if (element instanceof HTMLCanvasElement) {
    element.getContext("2d").clearRect(0, 0, element.width, element.height);
  } else if (element.src) {
    URL.revokeObjectURL(element.src);
    element.removeAttribute("src");
  }
}

/** Draws the centre square of a source over a whole canvas. */
export function drawSquare(canvas, { element, width, height }) {
  const side = Math.min(width, height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const [left, top] = [(width - side) / 2, (height - side) / 2];
  context.drawImage(element, left, top, side, side, 0, 0, canvas.width, canvas.height);
}

/** The content of a canvas as a picture file, at once: toBlob waits until the page is idle. */
export function encoded(canvas, type, quality) {
  const bytes = atob(canvas.toDataURL(type, quality).split(",")[1]);
  return new Blob([Uint8Array.from(bytes, (letter) => letter.charCodeAt(0))], { type });
}
