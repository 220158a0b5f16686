// The camera, live, where the browser allows it: over https and on localhost.

/** Whether this page may ask for the camera; if not, a file chooser that opens the phone's camera takes its place. */
export const allowed = () => Boolean(window.isSecureContext && navigator.mediaDevices?.getUserMedia);

/**
 * Show `each(bitmap)` one picture of the camera after the other, as fast as it answers.
 * @returns {Promise<() => void>} stops it. Rejects with words for the visitor if there is no camera, or it is refused.
 */
export async function watch(each) {
  const media = navigator.mediaDevices;
  const stream = await media.getUserMedia({ video: { facingMode: "environment" } }).catch((error) => {
    const reasons = { NotAllowedError: "the browser refuses it", NotFoundError: "there is none" };
    throw new Error(`No camera: ${reasons[error.name] ?? error.message}`);
  });
  const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true, playsInline: true });
  await video.play();
  let running = true;
  async function next() {
    if (!running) return;
    const bitmap = await createImageBitmap(video, { colorSpaceConversion: "none" });
    if (running) await each(bitmap);
    requestAnimationFrame(next);
  }
  requestAnimationFrame(next);
  return () => {
    running = false;
    stream.getTracks().forEach((track) => track.stop());
  };
}
