package shop.orders

import shop.proto.Catalog
import shop.proto.Order
import shop.proto.Product

val catalog: Catalog =
    Catalog.newBuilder()
        .addProducts(product("tea-green", "Green tea", 450, "tea"))
        .addProducts(product("tea-black", "Black tea", 390, "tea"))
        .addProducts(product("cup-small", "Small cup", 900, "cups"))
        .build()

class UnknownProduct(sku: String) : IllegalArgumentException("no product $sku")

/** The order with its total filled in. */
fun price(order: Order, catalog: Catalog): Order {
    val prices = catalog.productsList.associate { it.sku to it.priceCents }
    val total = order.linesList.sumOf { line ->
        require(line.quantity > 0) { "quantity of ${line.sku} is ${line.quantity}" }
        (prices[line.sku] ?: throw UnknownProduct(line.sku)) * line.quantity
    }
    return order.toBuilder().setTotalCents(total).build()
}

private fun product(sku: String, name: String, priceCents: Long, shelf: String): Product =
    Product.newBuilder().setSku(sku).setName(name).setPriceCents(priceCents).setShelf(shelf).build()
