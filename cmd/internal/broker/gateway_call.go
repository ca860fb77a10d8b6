package broker

import (
	"encoding/json"
	"math"
	"strconv"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// childCall returns a request for a device behind a gateway as the gateway gets it. The number
// becomes the first member of the request, which is an object with others.
func childCall(child string, number uint32, request []byte) []byte {
	data := append(payload.AppendString([]byte(`{"device":`), child), `,"data":{"id":`...)
	data = append(strconv.AppendUint(data, uint64(number), 10), ',')
	return append(append(data, request[1:]...), '}')
}

// callIn returns the device and the number in a message that childCall has made, and 0 for other
// messages.
func callIn(m packets.Packet) (child string, number uint32) {
	var call struct {
		Device string
		Data   struct{ ID uint32 }
	}
	if m.TopicName != childCalls || json.Unmarshal(m.Payload, &call) != nil {
		return "", 0
	}
	return call.Device, call.Data.ID
}

// subscriptionToChildCalls returns the subscription with which a session gets calls of a device
// behind it.
func subscriptionToChildCalls(cl *mqtt.Client, child string) (sub packets.Subscription, ok bool) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok || c.gateway == nil || c.gateway.isAway(child) {
		return sub, false
	}
	return subscriptionTo(cl, childCalls)
}

// answerChildCall takes the answer to a call of a device behind a gateway, such as
//
//	{"device":"room 1","id":1,"data":{"success":true}}
func (b *Broker) answerChildCall(c *conn, cl *mqtt.Client, pk packets.Packet) error {
	child, number, answer, err := childAnswer(pk.Payload)
	if err != nil {
		b.counts.badPayloads.Add(1)
		b.options.Logger.Warn("gateway sent an answer that cannot be read", "device", c.device, "error", err)
		return decline(cl, pk, packets.ErrPayloadFormatInvalid)
	}
	return b.passAnswer(cl, pk, c.device+"/"+child, number, answer)
}

// childAnswer reads the answer to a call. Without data it is empty. Its errors are those of package
// payload.
func childAnswer(data []byte) (child string, number uint32, answer []byte, err error) {
	fields, err := payload.ParseAttributes(data, payload.Options{KeepText: true})
	if err != nil {
		return "", 0, nil, err
	}
	id := int64(0)
	for _, f := range fields {
		switch f.Key {
		case "device":
			child = f.Value.String()
		case "id":
			id, _ = f.Value.Long()
		case "data":
			answer = f.Value.AppendJSON(nil)
		}
	}
	if id < 1 || id > math.MaxUint32 {
		return "", 0, nil, &payload.Error{Reason: "the answer to a call does not have its id"}
	}
	return child, uint32(id), answer, payload.CheckChild(child)
}
