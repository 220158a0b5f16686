// NumPy's .npz as np.savez writes it: a zip archive of .npy files that are stored as they are.

const TYPES = { "|u1": Uint8Array, "<f4": Float32Array };
const LOCAL_HEADER = 0x04034b50;

/**
 * @param {ArrayBuffer} buffer
 * @returns {Object<string, {data: TypedArray, shape: number[]}>} by the arrays' names
 */
export function readNpz(buffer) {
  const view = new DataView(buffer);
  const arrays = {};
  let at = 0;
  while (view.getUint32(at, true) === LOCAL_HEADER) {
    if (view.getUint16(at + 8, true) !== 0) throw new Error("a compressed .npz; expected one of np.savez");
    const name = view.getUint16(at + 26, true);
    const extra = view.getUint16(at + 28, true);
    const content = at + 30 + name + extra;
    let size = view.getUint32(at + 18, true);
    if (size === 0xffffffff) size = Number(view.getBigUint64(at + 30 + name + 4, true)); // some Pythons': in the extra field
    const file = new TextDecoder().decode(new Uint8Array(buffer, at + 30, name));
    arrays[file.replace(/\.npy$/, "")] = readNpy(buffer.slice(content, content + size));
    at = content + size;
  }
  return arrays;
}

/** The header is a Python dict of descr, fortran_order and shape (numpy.lib.format). */
function readNpy(buffer) {
  const view = new DataView(buffer);
  const wide = view.getUint8(6) > 1; // from version 2 on the length has four bytes
  const start = wide ? 12 : 10;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder().decode(new Uint8Array(buffer, start, length));
  const [, kind] = header.match(/'descr': '([^']+)'/);
  const shape = header.match(/'shape': \(([^)]*)\)/)[1].split(",").filter((side) => side.trim()).map(Number);
  if (!(kind in TYPES)) throw new Error(`an array of ${kind}; expected ${Object.keys(TYPES).join(" or ")}`);
  return { data: new TYPES[kind](buffer.slice(start + length)), shape };
}
