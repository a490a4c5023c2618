// Build of the console: one bundle, one stylesheet and the page, into the folder that the server reads.

import { build } from "esbuild";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const target = here("../engine/console/static");
const SHIPPED = ["preact"]; // their licences travel with their code

await rm(target, { recursive: true, force: true });
await mkdir(target);
await build({
  absWorkingDir: here("."),
  entryPoints: {
    main: "src/main.tsx",
    modules: "src/modules.js",
    theme: "src/theme.js",
    console: "src/styles/console.css",
  },
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  jsx: "automatic",
  jsxImportSource: "preact",
  chunkNames: "[name]-[hash]",
  outdir: target,
  legalComments: "none",
});
await cp(here("src/assets"), target, { recursive: true });
const licences = SHIPPED.map(async (name) => {
  const text = await readFile(here(`node_modules/${name}/LICENSE`), "utf8");
  return `${name}\n\n${text.trim()}\n`;
});
await writeFile(`${target}/licences.txt`, (await Promise.all(licences)).join("\n"));
