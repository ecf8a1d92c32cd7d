module shop/receipt

go 1.19

require google.golang.org/protobuf v1.31.0
