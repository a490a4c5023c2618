// Zip archives, read in the browser: the server takes files and tars.

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const END_BYTES = 22;
const LONGEST_COMMENT = 65535;

/** The files of a zip whose name is `wanted`. Throws an Error with a sentence for the user. */
export async function unzip(archive: File, wanted: (name: string) => boolean): Promise<File[]> {
  const tail = archive.slice(Math.max(0, archive.size - END_BYTES - LONGEST_COMMENT));
  const end = new DataView(await tail.arrayBuffer());
  const at = findEnd(end);
  const [size, start] = [end.getUint32(at + 12, true), end.getUint32(at + 16, true)];
  if (start === 0xffffffff) throw new Error("a zip over 4 GiB can't be read here: send a tar");
  const list = new DataView(await archive.slice(start, start + size).arrayBuffer());
  const found: File[] = [];
  for (let place = 0; place + 46 <= list.byteLength && list.getUint32(place, true) === ENTRY; ) {
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((offset) => list.getUint16(place + offset, true)) as [number, number, number];
    const name = new TextDecoder().decode(new Uint8Array(list.buffer, place + 46, nameBytes));
    if (wanted(name)) found.push(await extract(archive, list, place, name));
    place += 46 + nameBytes + extraBytes + commentBytes;
  }
  return found;
}

function findEnd(end: DataView): number {
  for (let at = end.byteLength - END_BYTES; at >= 0; at -= 1) if (end.getUint32(at, true) === END) return at;
  throw new Error("this is not a zip archive, or it is cut off");
}

async function extract(archive: File, list: DataView, place: number, name: string): Promise<File> {
  const method = list.getUint16(place + 10, true);
  const size = list.getUint32(place + 20, true);
  const start = list.getUint32(place + 42, true);
  if (list.getUint16(place + 8, true) & 1) throw new Error(`${name} is encrypted`);
  const head = new DataView(await archive.slice(start, start + 30).arrayBuffer());
  const from = start + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const packed = archive.slice(from, from + size);
  if (method === 0) return new File([packed], name);
  if (method !== 8) throw new Error(`${name} is compressed in a way that can't be read here`);
  const plain = packed.stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new File([await new Response(plain).blob()], name);
}
