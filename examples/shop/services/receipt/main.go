// Receipt prints what a Receipt message says: receipt <message.
package main

import (
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"

	"shop/receipt/gen"
)

func main() {
	message, err := io.ReadAll(os.Stdin)
	order := &gen.Order{}
	if err == nil {
		err = proto.Unmarshal(message, order)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "receipt:", err)
		os.Exit(1)
	}
	fmt.Print(text(order))
}

func text(order *gen.Order) string {
	lines := ""
	for _, line := range order.GetLines() {
		lines += fmt.Sprintf("%3d × %s\n", line.GetQuantity(), line.GetSku())
	}
	return lines
}
