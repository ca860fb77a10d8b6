package broker

import (
	"strings"
	"testing"
)

var tooDeep = strings.Repeat("/", maxLevels)

func TestRoutes(t *testing.T) {
	for topic, want := range map[string]route{
		"v1/devices/me/telemetry":            routeTelemetry,
		"v2/t":                               routeTelemetry,
		"v2/t/j":                             routeTelemetry,
		"v1/devices/me/attributes":           routeAttributes,
		"v2/a":                               routeAttributes,
		"v2/a/j":                             routeAttributes,
		"v1/devices/me":                      routeUnsupported,
		"v1/devices/me/":                     routeUnsupported,
		"v1/devices/me/telemetry/":           routeUnsupported,
		"v1/gateway":                         routeUnsupported,
		"v1/gateway/connect":                 routeUnsupported,
		"v2/t/p":                             routeUnsupported,
		tooDeep:                              routeUnsupported,
		"v1/devices/":                        routeRefused,
		"v1/devices/m":                       routeRefused,
		"v1/devices/meter":                   routeRefused,
		"v1/devices/meter/x":                 routeRefused,
		"":                                   routeRefused,
		refusedTopic:                         routeRefused,
		"$SYS/broker":                        routeRefused,
		"$anything":                          routeRefused,
		"v1/devices":                         routeShared,
		"v1/gateways":                        routeShared,
		"V1/devices/me/telemetry":            routeShared,
		"/v1/devices/me/telemetry":           routeShared,
		"v2":                                 routeUnsupported,
		"v2/x":                               routeUnsupported,
		"v2/r/req/1":                         routeRPC,
		"v2/r/req/j/1":                       routeRPC,
		"v2/r/req/p/1":                       routeUnsupported,
		"v2/r/req/":                          routeUnsupported,
		"v2/r/req/12345678901":               routeUnsupported,
		"v1/devices/me/rpc/request/20":       routeRPC,
		"v1/devices/me/rpc/request/-1":       routeUnsupported,
		"v1/devices/me/attributes/request/7": routeAttributeRequest,
		"v1/devices/me/attributes/request/+": routeUnsupported,
		"v2/a/req/7":                         routeAttributeRequest,
		"v2/a/req/j/7":                       routeAttributeRequest,
		"v2/r/res/1":                         routeRPCResponse,
		"v2/r/res/j/1":                       routeRPCResponse,
		"v2/r/res/p/1":                       routeUnsupported,
		"v1/devices/me/rpc/response/1":       routeRPCResponse,
		"v1/devices/me/rpc/response/x":       routeUnsupported,
		"v2/a/res/1":                         routeUnsupported,
		"v2/fw/request/1/chunk/0":            routeUnsupported,
		"v2/fw/response/1/chunk/0":           routeUnsupported,
		"v2/sw/response/1/chunk/0":           routeUnsupported,
		"v2/fw/error":                        routeUnsupported,
		"/provision/request":                 routeUnsupported,
		"/provision/response":                routeUnsupported,
		"/provisions":                        routeShared,
		"provision/request":                  routeShared,
		"v2x":                                routeShared,
		tooDeep[1:]:                          routeShared,
		"home/kitchen/temperature":           routeShared,
		"with $ inside":                      routeShared,
	} {
		if got := routeOf(topic); got != want {
			t.Errorf("routeOf(%q) = %d, want %d", topic, got, want)
		}
	}
}

func TestFilters(t *testing.T) {
	for filter, want := range map[string]struct{ valid, readable bool }{
		"#":               {true, true},
		"+":               {true, true},
		"a/#":             {true, true},
		"+/a/+/#":         {true, true},
		"/":               {true, true},
		"$share/g/#":      {true, true},
		"$SHARE/g/a/+":    {true, true},
		tooDeep[1:]:       {true, true},
		"a+":              {false, true},
		"a/b#":            {false, true},
		"#/a":             {false, true},
		"+#":              {false, true},
		"##":              {false, true},
		"a/+b/c":          {false, true},
		"":                {false, true},
		tooDeep:           {false, true},
		"$share/g/a+":     {false, true},
		"$share/g/":       {false, true},
		"$share/g":        {true, false},
		"$SYS/#":          {true, false},
		"$share/g/$SYS/#": {true, false},
		"$other":          {true, false},
	} {
		if got := validFilter(filter); got != want.valid {
			t.Errorf("validFilter(%q) = %t", filter, got)
		}
		if got := readable(filter); got != want.readable {
			t.Errorf("readable(%q) = %t", filter, got)
		}
	}
}

func TestCheckWill(t *testing.T) {
	for topic, ok := range map[string]bool{
		"wills/a":                          true,
		"v1/devices/me/telemetry":          true,
		"v1/devices/me/attributes":         true,
		"v1/devices/me/rpc":                true,
		"v1/devices/other":                 false,
		"$SYS/x":                           false,
		"$SYS/broker/connection/h.c/state": true,
		"":                                 false,
		"a/#":                              false,
		"a+":                               false,
		refusedTopic:                       false,
		tooDeep:                            false,
	} {
		if err := CheckWill(topic); (err == nil) != ok {
			t.Errorf("CheckWill(%q) = %v", topic, err)
		}
	}
}

func FuzzFilters(f *testing.F) {
	for _, s := range []string{"", "#", "a/+/b", "$share/g/#", "$share", "$SYS/#", "a#", tooDeep} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, filter string) {
		routeOf(filter)
		if CheckWill(filter) == nil && (strings.HasPrefix(filter, "$") && !strings.HasPrefix(filter, bridgeState) || strings.ContainsAny(filter, "+#")) {
			t.Errorf("will topic %q accepted", filter)
		}
		if isReaderTopic(filter) && routeOf(filter) == routeShared {
			t.Errorf("%q is for readers, and any device may publish there", filter)
		}
		inner, shared := sharedFilter(filter)
		if readable(filter) && strings.HasPrefix(filter, "$") && (!shared || strings.HasPrefix(inner, "$")) {
			t.Errorf("%q is readable", filter)
		}
		if !validFilter(filter) {
			return
		}
		if shared {
			filter = inner
		}
		levels := strings.Split(filter, "/")
		for i, level := range levels {
			if strings.ContainsAny(level, "+#") && level != "+" && (level != "#" || i != len(levels)-1) {
				t.Errorf("filter %q is valid", filter)
			}
		}
	})
}
