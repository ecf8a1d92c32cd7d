const path = require("node:path");

module.exports = {
  entry: ["./src/index.tsx", "./src/index.html"],
  output: { path: path.resolve(__dirname, "dist"), filename: "shop.js" },
  module: {
    rules: [
      // Without transpileOnly, ts-loader checks types: a type error fails the build.
      { test: /\.tsx?$/, loader: "ts-loader", exclude: /node_modules/ },
      { test: /\.html$/, type: "asset/resource", generator: { filename: "[name][ext]" } },
    ],
  },
  resolve: { extensions: [".tsx", ".ts", ".js"] },
  performance: { hints: false },
};
