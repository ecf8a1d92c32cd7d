package shop.orders

import com.google.protobuf.InvalidProtocolBufferException
import com.google.protobuf.MessageLite
import com.sun.net.httpserver.HttpExchange
import com.sun.net.httpserver.HttpServer
import java.net.InetSocketAddress
import shop.proto.Order

fun main() {
    val port = System.getenv("PORT")?.toInt() ?: 8080
    val server = serve(InetSocketAddress(port))
    println("orders listens on ${server.address.port}")
}

/** `GET /catalog` and `POST /orders`; bodies are messages of shop.proto. */
fun serve(address: InetSocketAddress): HttpServer =
    HttpServer.create(address, 0).apply {
        createContext("/catalog") { it.answer(200, catalog) }
        createContext("/orders") { it.order() }
        createContext("/health") { it.answer(200, "ok".toByteArray(), "text/plain") }
        start()
    }

private fun HttpExchange.order() =
    try {
        answer(200, price(Order.parseFrom(requestBody), catalog))
    } catch (problem: InvalidProtocolBufferException) {
        answer(400, "not an order: ${problem.message}".toByteArray(), "text/plain")
    } catch (problem: IllegalArgumentException) {
        answer(422, problem.message.orEmpty().toByteArray(), "text/plain")
    }

private fun HttpExchange.answer(status: Int, message: MessageLite) =
    answer(status, message.toByteArray(), "application/x-protobuf")

private fun HttpExchange.answer(status: Int, body: ByteArray, type: String) = use {
    responseHeaders.add("Content-Type", type)
    sendResponseHeaders(status, if (body.isEmpty()) -1 else body.size.toLong())
    responseBody.write(body)
}
