import { createRoot } from "react-dom/client";
import { Shop } from "./Shop";

const root = document.getElementById("shop");
if (!root) {
  throw new Error("the page has no element #shop");
}
createRoot(root).render(<Shop />);
