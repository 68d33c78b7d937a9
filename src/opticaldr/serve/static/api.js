// Requests to the service that served this page. Every failure becomes a sentence for people.

const ASK_AGAIN_MS = 2000;

/** A request without the answer that was asked for; its message is a sentence for people. */
export class Refused extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status; // 0: the service did not answer
  }
}

/** Dispatches "lost" when the service stops answering, "back" when it answers again. */
export const connection = new EventTarget();
let lost = false;

export const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The answer of the service; Refused if it refuses or is not there. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw gone();
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  const message = body?.error?.message ?? `The service answered ${answer.status}; try again.`;
  throw new Refused(message, answer.status);
}

/** As ask, for JSON. */
export async function askJson(path, options) {
  return whole(await ask(path, options), "json");
}

/** As ask, for a picture; also gives the headers of the answer. */
export async function askPicture(path, options) {
  const answer = await ask(path, options);
  return { blob: await whole(answer, "blob"), headers: answer.headers };
}

/** Options that send one file under a neutral name: nobody needs the real one. */
export function upload(blob, signal) {
  const body = new FormData();
  body.append("file", blob, "upload");
  return { method: "POST", body, signal };
}

/** "?a=1&b=2"; empty where a value is null. */
export function query(values) {
  return "?" + new URLSearchParams(Object.entries(values).map(([k, v]) => [k, v ?? ""]));
}

/**
 * Runs work one at a time; calls while it runs lead to one more run at its end, with the newest
 * settings.
 */
export function newestOnly(work) {
  let running = false;
  let again = false;
  return async () => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      do {
        again = false;
        await work();
      } while (again);
    } finally {
      running = false;
    }
  };
}

async function whole(answer, kind) {
  try {
    return await answer[kind]();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw gone();
  }
}

function gone() {
  if (!lost) {
    lost = true;
    connection.dispatchEvent(new Event("lost"));
    askUntilBack();
  }
  return new Refused("The service does not answer.");
}

async function askUntilBack() {
  while (lost) {
    await wait(ASK_AGAIN_MS);
    try {
      await fetch("/api/health");
      lost = false;
      connection.dispatchEvent(new Event("back"));
    } catch {
      // still away
    }
  }
}
