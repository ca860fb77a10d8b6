package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// Topics on which a gateway gets messages.
const (
	childAttributes       = "v1/gateway/attributes"
	childAttributeAnswers = "v1/gateway/attributes/response"
	childCalls            = "v1/gateway/rpc"
)

// Children serves the devices behind gateways. All functions are called like [Options].Telemetry,
// with the name of the gateway and what it has published, and their errors are like its. If one is
// nil, gateways get the errors of a store that fails.
type Children struct {
	// Telemetry and Attributes store what is published to v1/gateway/telemetry and
	// v1/gateway/attributes, and return the names of the devices in it.
	Telemetry  func(ctx context.Context, gateway string, payload []byte) (children []string, err error)
	Attributes func(ctx context.Context, gateway string, payload []byte) (children []string, err error)
	// Connect makes a device known, whose name is valid.
	Connect func(ctx context.Context, gateway, child string) error
	// AttributeRequest returns the answer to a request on v1/gateway/attributes/request.
	AttributeRequest func(ctx context.Context, gateway string, request []byte) (answer []byte, err error)
}

// withDefaults returns c with functions that fail in place of those that are missing.
func (c Children) withDefaults() Children {
	if c.Telemetry == nil || c.Attributes == nil || c.Connect == nil || c.AttributeRequest == nil {
		err := errors.New("this broker serves no gateways")
		none := func(context.Context, string, []byte) ([]string, error) { return nil, err }
		return Children{
			Telemetry: none, Attributes: none, Connect: func(context.Context, string, string) error { return err },
			AttributeRequest: func(context.Context, string, []byte) ([]byte, error) { return nil, err },
		}
	}
	return c
}

// gateway is what the broker knows of a connection of a gateway. A device behind it counts as
// connected unless the gateway has said on this connection that it is not.
type gateway struct {
	mu    sync.Mutex
	away  map[string]struct{} // devices that are disconnected
	bytes int                 // of their names
}

// awayBytes bounds the names of devices that are remembered as disconnected.
const awayBytes = 64 << 10

// setAway remembers that a device is disconnected.
func (g *gateway) setAway(child string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.away[child]; known || g.bytes+len(child) > awayBytes {
		return
	}
	if g.away == nil {
		g.away = make(map[string]struct{})
	}
	g.away[strings.Clone(child)] = struct{}{}
	g.bytes += len(child)
}

// setBack remembers that devices are connected.
func (g *gateway) setBack(children ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, child := range children {
		if _, known := g.away[child]; known {
			delete(g.away, child)
			g.bytes -= len(child)
		}
	}
}

// isAway reports whether a device is disconnected.
func (g *gateway) isAway(child string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, away := g.away[child]
	return away
}

// gatewayRoute returns the route of a topic on which gateways publish for the devices behind them.
func gatewayRoute(topic string) route {
	switch topic {
	case "v1/gateway/telemetry":
		return routeChildTelemetry
	case "v1/gateway/attributes":
		return routeChildAttributes
	case "v1/gateway/connect":
		return routeChildConnect
	case "v1/gateway/disconnect":
		return routeChildDisconnect
	case "v1/gateway/attributes/request":
		return routeChildAttributeRequest
	case childCalls: // the topics of both directions are the same
		return routeChildRPCResponse
	}
	return routeUnsupported
}

// gatewayFilter reports whether something can come to a gateway on the topics of a filter.
func gatewayFilter(filter string) bool {
	return slices.ContainsFunc([]string{childAttributes, childAttributeAnswers, childCalls}, func(topic string) bool { return matches(filter, topic) })
}

// childSave returns the function that stores what a gateway publishes.
func (b *Broker) childSave(g *gateway, r route) saveFunc {
	serve := b.options.Children
	return func(ctx context.Context, name string, data []byte) error {
		var children []string
		var err error
		switch r {
		case routeChildTelemetry:
			children, err = serve.Telemetry(ctx, name, data)
		case routeChildAttributes:
			children, err = serve.Attributes(ctx, name, data)
		default:
			var child string
			if child, err = childIn(data); err != nil {
				return err
			}
			if r == routeChildDisconnect {
				g.setAway(child)
				return nil
			}
			children, err = []string{child}, serve.Connect(ctx, name, child)
		}
		if err == nil {
			g.setBack(children...)
		}
		return err
	}
}

// childIn returns the name in a payload such as {"device":"room 1","type":"thermostat"}. Its errors
// are those of package payload.
func childIn(data []byte) (string, error) {
	fields, err := payload.ParseAttributes(data, payload.Options{KeepText: true, MaxBytes: maxRequest})
	if err != nil {
		return "", err
	}
	for _, f := range fields {
		if f.Key == "device" && f.Value.Kind() == payload.KindString {
			return f.Value.String(), payload.CheckChild(f.Value.String())
		}
	}
	return "", &payload.Error{Reason: `there is no name of a device: send an object such as {"device":"room 1"}`}
}

// childRequest answers a request for attributes of a device behind a gateway. A request that cannot
// be answered has no answer, because that would need the number of the request.
func (b *Broker) childRequest(c *conn, cl *mqtt.Client, pk packets.Packet) error {
	answer, err := b.attributes(c, pk.Payload, b.options.Children.AttributeRequest)
	switch {
	case err == nil:
		b.counts.answered.Add(1)
		b.answer(cl, childAttributeAnswers, answer, nil)
		return packets.CodeSuccessIgnore
	case b.options.BadPayload(err):
		return decline(cl, pk, packets.ErrPayloadFormatInvalid)
	}
	return decline(cl, pk, packets.ErrImplementationSpecificError)
}

// notForDevice reports whether a topic is one for gateways and the session is not one of a gateway
// any more.
func notForDevice(cl *mqtt.Client, topic string) bool {
	c, ok := cl.Net.Conn.(*conn)
	switch {
	case !ok:
		return false
	case isReaderTopic(topic):
		return !c.reader
	}
	return c.gateway == nil && within(topic, "v1/gateway")
}

// splitChild returns the gateway and the name of a device behind it, given as gateway/name. No
// other device has a / in its name, see [CheckSubject].
func splitChild(device string) (gateway, child string, ok bool) {
	gateway, child, ok = strings.Cut(device, "/")
	if ok && payload.CheckChild(child) == nil {
		return gateway, child, true
	}
	return device, "", false
}

// pushToGateway sends a change of shared attributes of a device to the gateway before it.
func (b *Broker) pushToGateway(name, child string, change []byte) {
	data := append(payload.AppendString([]byte(`{"device":`), child), `,"data":`...)
	data = append(append(data, change...), '}')
	for _, id := range b.ledger.sessionsOf(name) {
		cl, ok := b.server.Clients.Get(id)
		if !ok {
			continue
		}
		if c, ok := cl.Net.Conn.(*conn); ok && c.gateway != nil && !c.gateway.isAway(child) {
			b.answer(cl, childAttributes, data, new(durable.Receipt))
		}
	}
}
