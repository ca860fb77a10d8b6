package broker

import (
	"context"
	"errors"
	"strconv"
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// maxRequest is the longest payload of a request in bytes.
const maxRequest = 64 << 10

// Limits are limits of a device that the broker itself does not enforce. A device that calls
// getSessionLimits gets them. Zero fields set no limit.
type Limits struct {
	MaxPacket int64 // bytes of one packet
	// PublishRate is how many messages a second, and PublishBurst how many at once; a burst of 0
	// is that of one second.
	PublishRate, PublishBurst int64
}

// requestOf returns the route of a request of a device and the topic of its answer, or
// routeUnsupported. A request ends in its number. Of a response to a call it returns that number in
// place of the topic.
func requestOf(topic string) (route, string) {
	for _, r := range [...]struct {
		route
		request, response string
	}{
		{routeRPC, "v1/devices/me/rpc/request/", "v1/devices/me/rpc/response/"},
		{routeRPC, "v2/r/req/", "v2/r/res/"},
		{routeRPC, "v2/r/req/j/", "v2/r/res/j/"},
		{routeRPCResponse, "v1/devices/me/rpc/response/", ""},
		{routeRPCResponse, "v2/r/res/", ""},
		{routeRPCResponse, "v2/r/res/j/", ""},
		{routeAttributeRequest, "v1/devices/me/attributes/request/", "v1/devices/me/attributes/response/"},
		{routeAttributeRequest, "v2/a/req/", "v2/a/res/"},
		{routeAttributeRequest, "v2/a/req/j/", "v2/a/res/j/"},
	} {
		if number, ok := strings.CutPrefix(topic, r.request); ok && isRequestNumber(number) {
			return r.route, r.response + number
		}
	}
	return routeUnsupported, ""
}

// isRequestNumber reports whether s is a number as ThingsBoard's clients count their requests.
func isRequestNumber(s string) bool {
	const longest = 10 // digits of 32 bits
	return s != "" && len(s) <= longest && strings.Trim(s, "0123456789") == ""
}

// request answers a request of a device, and returns what mochi is to do with it. The goroutine
// that reads from the device does it, so that a device waits for its own requests only.
func (b *Broker) request(c *conn, cl *mqtt.Client, pk packets.Packet, r route, topic string) error {
	var (
		answer []byte
		err    error
	)
	if r == routeRPC {
		answer, err = b.rpc(c, pk.Payload)
	} else {
		answer, err = b.attributes(c, pk.Payload, b.options.AttributeRequest)
	}
	switch {
	case err == nil:
		b.counts.answered.Add(1)
		b.answer(cl, topic, answer, nil)
		return packets.CodeSuccessIgnore
	case errors.Is(err, errNotStored):
		// No answer is better than one that looks as if there were no attributes.
		return decline(cl, pk, packets.ErrImplementationSpecificError)
	}
	b.answer(cl, topic, errorJSON(err.Error()), nil)
	return decline(cl, pk, packets.ErrPayloadFormatInvalid)
}

// attributes returns the answer of ask to a request for attributes. Its errors are those about the
// payload and errNotStored.
func (b *Broker) attributes(c *conn, data []byte, ask func(ctx context.Context, device string, request []byte) ([]byte, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeout(b.storing, b.options.StoreTimeout)
	defer cancel()
	answer, err := ask(ctx, c.device, data)
	switch {
	case err == nil:
		return answer, nil
	case b.options.BadPayload(err):
		b.counts.badPayloads.Add(1)
		return nil, err
	}
	b.counts.storeErrors.Add(1)
	b.options.Logger.Error("attributes not read for a device", "device", c.device, "error", err)
	return nil, errNotStored
}

// rpc returns the answer to a remote procedure call of a device. An error means that the payload
// is none.
func (b *Broker) rpc(c *conn, data []byte) ([]byte, error) {
	fields, err := payload.ParseAttributes(data, payload.Options{KeepText: true, MaxBytes: maxRequest})
	var method payload.Value
	for _, f := range fields {
		if f.Key == "method" {
			method = f.Value
		}
	}
	switch {
	case err != nil:
		b.counts.badPayloads.Add(1)
		return nil, err
	case method.Kind() != payload.KindString:
		b.counts.badPayloads.Add(1)
		return nil, errNoMethod
	case method.String() == "getSessionLimits":
		return b.sessionLimits(c.limits, c.gateway != nil), nil
	}
	b.unserved.messages[familyRPC].Add(1)
	b.warnUnserved(c.device, familyRPC)
	return errorJSON("the bundled broker has no rule engine that could answer this method; " +
		"it only answers getSessionLimits: use an ordinary topic, or connect the proxy to ThingsBoard"), nil
}

var errNoMethod = errors.New(`the payload has no method: send an object such as {"method":"getSessionLimits","params":{}}`)

// sessionLimits returns the limits of a session in the form of ThingsBoard. It has one bound for
// messages, which includes those of telemetry. A gateway gets it for itself, and for each of the
// devices behind it.
func (b *Broker) sessionLimits(l Limits, gateway bool) []byte {
	// topicAndHeader is how much of a packet is no payload, with the longest device topic.
	const topicAndHeader = 64
	most := int64(b.options.MaxPacket)
	if l.MaxPacket > 0 {
		most = min(most, l.MaxPacket)
	}
	most = min(max(most-topicAndHeader, 1), int64(b.options.MaxPayload))
	messages := "null"
	if rate := l.PublishRate; rate > 0 {
		if l.PublishBurst > 0 {
			rate = min(rate, l.PublishBurst)
		}
		messages = strconv.Quote(strconv.FormatInt(rate, 10) + ":1")
	}
	rates := `{"messages":` + messages + `,"telemetryMessages":null,"telemetryDataPoints":null}`
	answer := `{"maxPayloadSize":` + strconv.FormatInt(most, 10) + `,"maxInflightMessages":` + strconv.Itoa(receiveMax) + `,"rateLimits":` + rates
	if gateway {
		answer += `,"gatewayRateLimits":` + rates
	}
	return []byte(answer + "}")
}

func errorJSON(text string) []byte {
	return append(payload.AppendString([]byte(`{"error":`), text), '}')
}

// answer sends a message of the broker to one session, with the QoS of its subscriptions, or not
// at all if it has none that matches.
//
// The receipt is that of deliver.
func (b *Broker) answer(cl *mqtt.Client, topic string, data []byte, r *durable.Receipt) {
	sub, ok := subscriptionTo(cl, topic)
	if !ok {
		return
	}
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1},
		TopicName:   topic, Payload: data,
	}
	b.deliver(cl.ID, sub, pk, newBody(pk), r)
}

// subscriptionTo returns the subscriptions of a session that match a topic as one.
func subscriptionTo(cl *mqtt.Client, topic string) (sub packets.Subscription, found bool) {
	for filter, s := range cl.State.Subscriptions.GetAll() {
		switch {
		case !matches(filter, topic):
		case found:
			sub = sub.Merge(s)
		default:
			sub, found = s, true
		}
	}
	return sub, found
}

// matches reports whether a valid filter that is not shared matches a topic (MQTT 5.0 section
// 4.7).
func matches(filter, topic string) bool {
	for {
		if filter == "#" {
			return true
		}
		level, filterRest, more := strings.Cut(filter, "/")
		name, topicRest, deeper := strings.Cut(topic, "/")
		switch {
		case level != "+" && level != name:
			return false
		case !more || !deeper:
			return more == deeper || filterRest == "#"
		}
		filter, topic = filterRest, topicRest
	}
}
