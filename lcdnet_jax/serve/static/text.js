// Numbers in words.

/** Seconds as "0.4 s", "12 s" or "3 min 20 s". */
export function duration(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 100) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60
    ? `${minutes} min ${whole % 60} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Bytes as "310 kB" or "4.2 MB". */
export function size(bytes) {
  if (bytes < 1e3) return `${bytes} bytes`;
  if (bytes < 1e6) return `${Math.round(bytes / 1e3)} kB`;
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

/** Megapixels of an image, "0.14 megapixels". */
export function megapixels(count) {
  return `${count < 9.95 ? Number(count.toPrecision(2)) : Math.round(count)} megapixels`;
}

/** "1 image", "3 images". */
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
