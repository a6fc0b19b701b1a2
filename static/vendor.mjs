// Copies what the pages load from node_modules into static/vendor. `npm ci` has already checked the
// packages against the integrity digests in package-lock.json, so nothing is fetched or trusted here.
import { copyFileSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const copies = [
  ["node_modules/uplot/dist/uPlot.iife.min.js", "static/vendor/uplot/uPlot.iife.min.js"],
  ["node_modules/uplot/dist/uPlot.min.css", "static/vendor/uplot/uPlot.min.css"],
  ["node_modules/uplot/LICENSE", "static/vendor/uplot/LICENSE"],
];
for (const [from, to] of copies) {
  mkdirSync(dirname(join(root, to)), { recursive: true });
  copyFileSync(join(root, from), join(root, to));
}
