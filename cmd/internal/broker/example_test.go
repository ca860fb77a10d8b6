package broker_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// The broker in front of a telemetry store.
func Example() {
	ctx := context.Background()
	store, err := telemetry.Open(ctx, telemetry.Options{Path: "telemetry.db"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	b, err := broker.New(broker.Options{
		Telemetry:  store.Telemetry,
		Attributes: store.Attributes,
		BadPayload: func(err error) bool {
			_, bad := errors.AsType[*telemetry.PayloadError](err)
			return bad
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close() // before the store: Wills are stored too

	upstream, err := b.Dial(ctx, "thermometer-17")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer upstream.Close()
	// CONNECT is written next, and CONNACK read.
}
