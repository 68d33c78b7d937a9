// Where pictures come from: a synthetic person, the webcam, a file.
//
// A source: {kind: "person" | "webcam" | "image" | "video", label, moving, element, width, height,
// blob: the file itself, close()}. element is what a canvas can draw; null if the browser cannot.

import { askPicture, query, Refused } from "./api.js";

const PERSON_PIXELS = 512;
const OTHER_VIDEOS = /\.(mkv|avi|mov|m4v)$/i;

const CAMERA_ERRORS = {
  NotAllowedError:
    "The browser may not use the camera. Allow it in the address bar and press Webcam again, or " +
    "open a file.",
  NotFoundError: "No camera was found. Connect one and press Webcam again, or open a file.",
  NotReadableError: "The camera is used by another program. Close that and press Webcam again.",
};

/** A rendered person who does not exist. */
export async function openPerson(seed) {
  const path = "/api/person.png" + query({ seed, size: PERSON_PIXELS });
  const { blob } = await askPicture(path);
  return still("person", `synthetic person ${seed + 1}`, blob, await createImageBitmap(blob));
}

/** The webcam; a sentence if it cannot be had. */
export async function openWebcam() {
  if (!navigator.mediaDevices) {
    throw new Refused(
      "Browsers give the camera only to pages of this computer or over https. Open a file instead.",
    );
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
  } catch (error) {
    throw new Refused(CAMERA_ERRORS[error.name] ?? `The camera cannot be used (${error.name}).`);
  }
  const element = newVideo();
  element.srcObject = stream;
  await element.play();
  return {
    ...moving("webcam", "webcam", element),
    close: () => stream.getTracks().forEach((track) => track.stop()),
  };
}

/** A picture or video from disk. */
export async function openFile(file) {
  const isVideo = file.type.startsWith("video/") || OTHER_VIDEOS.test(file.name);
  return isVideo ? openVideo(file) : openImage(file);
}

async function openImage(file) {
  try {
    return still("image", "your picture", file, await createImageBitmap(file));
  } catch {
    throw new Refused(
      `Expected a picture or video, found something else in ${file.name}; open a JPEG, PNG, ` +
        "WebP, MP4 or WebM.",
    );
  }
}

async function openVideo(file) {
  const element = newVideo();
  const address = URL.createObjectURL(file);
  const playable = await new Promise((resolve) => {
    element.onloadeddata = () => resolve(element.videoWidth > 0);
    element.onerror = () => resolve(false);
    element.src = address;
  });
  const close = () => {
    element.removeAttribute("src");
    element.load();
    URL.revokeObjectURL(address);
  };
  const source = { ...moving("video", "your video", element), blob: file, close };
  if (!playable) return { ...source, element: null };
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) await element.play();
  return source;
}

function newVideo() {
  const element = document.createElement("video");
  Object.assign(element, { muted: true, loop: true, playsInline: true });
  return element;
}

function still(kind, label, blob, element) {
  const { width, height } = element;
  return { kind, label, moving: false, element, width, height, blob, close: () => element.close() };
}

function moving(kind, label, element) {
  const { videoWidth: width, videoHeight: height } = element;
  return { kind, label, moving: true, element, width, height, blob: null };
}
