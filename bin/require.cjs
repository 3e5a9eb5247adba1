// What `require("rkd")` gives: the ES modules, through Node's own require. Jest's knows none, and is left aside with that.
const { createRequire } = process.getBuiltinModule("node:module");

module.exports = createRequire(__filename)("../dist/index.js");
