import { create, fromBinary, toBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import {
  CatalogSchema,
  OrderLineSchema,
  OrderSchema,
  RecommendationsSchema,
  type Catalog,
  type Order,
  type Recommendations,
} from "../gen/shop_pb";

export type Cart = ReadonlyMap<string, number>;

export function orderOf(cart: Cart): Order {
  const lines = [...cart].map(([sku, quantity]) => create(OrderLineSchema, { sku, quantity }));
  return create(OrderSchema, { lines });
}

export const loadCatalog = (): Promise<Catalog> => call("/api/catalog", CatalogSchema);

export const placeOrder = (cart: Cart): Promise<Order> => call("/api/orders", OrderSchema, orderOf(cart));

export const loadRecommendations = (cart: Cart): Promise<Recommendations> =>
  call("/api/recommendations", RecommendationsSchema, orderOf(cart));

async function call<T extends DescMessage>(url: string, schema: T, order?: Order): Promise<MessageShape<T>> {
  const body = order && toBinary(OrderSchema, order);
  const answer = await fetch(url, { method: body ? "POST" : "GET", body });
  if (!answer.ok) {
    throw new Error(`${url}: ${await answer.text()}`);
  }
  return fromBinary(schema, new Uint8Array(await answer.arrayBuffer()));
}
