package broker_test

import (
	"context"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker"
)

// A device connects, publishes and disconnects.
func Example() {
	ctx := context.Background()
	stored := make(chan string, 1)
	b, err := broker.New(broker.Options{
		Telemetry: func(_ context.Context, device string, payload []byte) error {
			stored <- fmt.Sprintf("%s of %s", payload, device)
			return nil
		},
		Attributes: func(context.Context, string, []byte) error { return nil },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close() // before the store, because Wills are stored too

	upstream, err := b.Dial(ctx, broker.Device{Name: "thermometer-17"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer upstream.Close()
	// CONNECT with a clean session, then PUBLISH at QoS 0.
	const connect, publish = "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "\x30\x0b\x00\x04v2/t{t:1}"
	if _, err := upstream.Write([]byte(connect + publish)); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-stored)
	// Output: {t:1} of thermometer-17
}
