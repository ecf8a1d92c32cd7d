import { useEffect, useState } from "react";
import type { Product } from "../gen/shop_pb";
import { loadCatalog, loadRecommendations, placeOrder, type Cart } from "./api";

export function Shop() {
  const [products, setProducts] = useState<Product[]>([]);
  const [cart, setCart] = useState<Cart>(new Map());
  const [recommended, setRecommended] = useState<string[]>([]);
  const [message, setMessage] = useState("");
  const report = (problem: unknown) => setMessage(String(problem));

  useEffect(() => {
    loadCatalog().then((catalog) => setProducts(catalog.products), report);
  }, []);
  useEffect(() => {
    loadRecommendations(cart).then(({ items }) => setRecommended(items.map((item) => item.sku)), report);
  }, [cart]);

  const add = (sku: string) => setCart(new Map(cart).set(sku, (cart.get(sku) ?? 0) + 1));
  const order = () => placeOrder(cart).then(({ totalCents }) => setMessage(`Ordered for ${euros(totalCents)}`), report);

  return (
    <main>
      <h1>Tea shop</h1>
      <ul>
        {products.map((product) => (
          <li key={product.sku}>
            {product.name}, {euros(product.priceCents)} {recommended.includes(product.sku) && <em>goes well with it</em>}
            <button onClick={() => add(product.sku)}>Add ({cart.get(product.sku) ?? 0})</button>
          </li>
        ))}
      </ul>
      <button onClick={order}>Order</button>
      <p role="status">{message}</p>
    </main>
  );
}

export const euros = (cents: bigint): string => `${(Number(cents) / 100).toFixed(2)} €`;
