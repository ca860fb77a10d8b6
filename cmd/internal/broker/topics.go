package broker

import (
	"errors"
	"strings"
)

// maxLevels bounds topics and filters: mochi's work on one grows with the square of its
// levels, and its memory with each level.
const maxLevels = 128

// refusedTopic replaces a topic that mochi would leave unanswered. No client can send it, as
// U+0000 is not allowed in a string [MQTT-1.5.4-2].
const refusedTopic = "\x00"

// filterOverQuota replaces a filter for which there is no room. No device may subscribe to it.
const filterOverQuota = "$over quota"

// route is where a message goes.
type route byte

const (
	routeShared      route = iota // an ordinary topic
	routeTelemetry                // stored
	routeAttributes               // stored
	routeUnsupported              // a device topic that has no function here
	routeRefused                  // not for devices

	routeRPC              // a call of the device, which is answered
	routeRPCResponse      // the answer of the device to a call of an operator
	routeAttributeRequest // a question that is answered from the store

	// What gateways publish for the devices behind them.
	routeChildTelemetry
	routeChildAttributes
	routeChildConnect
	routeChildDisconnect
	routeChildAttributeRequest
	routeChildRPCResponse
)

func routeOf(topic string) route {
	switch topic {
	case "v1/devices/me/telemetry", "v2/t", "v2/t/j":
		return routeTelemetry
	case "v1/devices/me/attributes", "v2/a", "v2/a/j":
		return routeAttributes
	case "", refusedTopic:
		return routeRefused
	}
	switch {
	case topic[0] == '$':
		return routeRefused
	case within(topic, "v1/devices/me"), within(topic, "v1/gateway"), within(topic, "v2"), within(topic, "/provision"):
		r, _ := requestOf(topic)
		return r
	case strings.HasPrefix(topic, "v1/devices/"):
		return routeRefused
	case strings.Count(topic, "/") >= maxLevels:
		return routeUnsupported
	}
	return routeShared
}

// within reports whether a topic is root or below it.
func within(topic, root string) bool {
	rest, ok := strings.CutPrefix(topic, root)
	return ok && (rest == "" || rest[0] == '/')
}

// bridgeState is where a mosquitto bridge publishes that it is connected, and by its Will that
// it is not.
const bridgeState = "$SYS/broker/connection/"

// CheckWill returns an error if the broker refuses a CONNECT whose Will has that topic: not a
// topic name of one to 128 levels, a topic that starts with $, or another device's topic. The
// proxy calls it before it passes CONNECT on. A bridge's own state below
// $SYS/broker/connection/ is accepted and goes nowhere, because mosquitto's bridges do not
// connect without it.
func CheckWill(topic string) error {
	switch {
	case topic == "", strings.ContainsAny(topic, "+#\x00"), strings.Count(topic, "/") >= maxLevels:
		return errors.New("will topic is not a valid topic name")
	case routeOf(topic) == routeRefused && !strings.HasPrefix(topic, bridgeState):
		return errors.New("will topic is not open to devices")
	}
	return nil
}

// sharePrefix introduces the filter of a shared subscription; mochi ignores its case.
const sharePrefix = "$share/"

// readable reports whether a device may subscribe to a filter. No message goes to a topic that
// it may not read.
func readable(filter string) bool {
	if filter == "" || filter[0] != '$' {
		return true
	}
	inner, ok := sharedFilter(filter)
	return ok && (inner == "" || inner[0] != '$')
}

// sharedFilter returns the filter inside $share/group/filter.
func sharedFilter(filter string) (inner string, ok bool) {
	if len(filter) < len(sharePrefix) || !strings.EqualFold(filter[:len(sharePrefix)], sharePrefix) {
		return "", false
	}
	_, inner, ok = strings.Cut(filter[len(sharePrefix):], "/")
	return inner, ok
}

// validFilter reports whether wildcards are alone in their level [MQTT-4.7.1-2]
// [MQTT-4.7.1-3] and the levels are not too many. mochi accepts a filter such as a+, which then
// matches nothing.
func validFilter(filter string) bool {
	if inner, ok := sharedFilter(filter); ok {
		filter = inner
	}
	if filter == "" || strings.Count(filter, "/") >= maxLevels {
		return false
	}
	if !strings.ContainsAny(filter, "+#") {
		return true
	}
	for level := range strings.SplitSeq(strings.TrimSuffix(filter, "#"), "/") {
		if strings.ContainsAny(level, "+#") && level != "+" {
			return false
		}
	}
	return filter == "#" || !strings.HasSuffix(filter, "#") || strings.HasSuffix(filter, "/#")
}
