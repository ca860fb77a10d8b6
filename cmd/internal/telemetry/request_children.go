package telemetry

import (
	"context"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// ChildAttributes answers a request that a gateway publishes to v1/gateway/attributes/request, such
// as one of
//
//	{"id":1,"device":"room 1","client":true,"key":"serial"}
//	{"id":1,"device":"room 1","client":false,"keys":["interval","unit"]}
//
// Client says whether the attributes are those of the device or those that operators have set for it.
// The answers are
//
//	{"id":1,"device":"room 1","value":"A17"}
//	{"id":1,"device":"room 1","values":{"interval":30}}
//
// with value if the request is for one key, and without either if there is no such attribute. Errors
// are those of [Requests.Attributes].
func (r *Requests) ChildAttributes(ctx context.Context, gateway string, request []byte) ([]byte, error) {
	asked, err := parseChildRequest(request)
	if err != nil {
		return nil, err
	}
	if err := r.turn(ctx); err != nil {
		return nil, err
	}
	defer r.turns.Release(1)
	answer := payload.AppendString(fmt.Appendf(nil, `{"id":%d,"device":`, asked.id), asked.device)
	found := r.Store.Attributes(ctx, ChildID(gateway, asked.device), asked.scope, asked.keys...)
	if len(asked.keys) > 1 {
		answer, err = appendAttributes(answer, "values", found)
		return append(answer, '}'), err
	}
	for p, err := range found {
		if err != nil {
			return nil, err
		}
		answer = p.Value.AppendJSON(append(answer, `,"value":`...))
	}
	return append(answer, '}'), nil
}

// childRequest asks for attributes of a device behind a gateway.
type childRequest struct {
	id     int64
	device string
	scope  Scope
	keys   []string
}

func parseChildRequest(data []byte) (asked childRequest, err error) {
	fields, err := payload.ParseAttributes(data, payload.Options{KeepText: true, MaxBytes: maxRequest})
	if err != nil {
		return asked, err
	}
	asked.scope = SharedScope
	for _, f := range fields {
		if err := asked.set(f); err != nil {
			return childRequest{}, err
		}
	}
	switch {
	case asked.device == "":
		return asked, &PayloadError{Reason: "there is no name of a device"}
	case len(asked.keys) == 0:
		return asked, &PayloadError{Reason: "there is no key"}
	}
	return asked, payload.CheckChild(asked.device)
}

// set takes one member of a request. Others than these are ignored.
func (c *childRequest) set(f payload.Field) error {
	kind := payload.KindString
	switch f.Key {
	case "id":
		kind = payload.KindLong
		c.id, _ = f.Value.Long()
	case "device":
		c.device = f.Value.String()
	case "client":
		kind = payload.KindBool
		if f.Value == payload.Bool(true) {
			c.scope = ClientScope
		}
	case "key":
		c.keys = []string{f.Value.String()}
	case "keys":
		keys, err := parseKeys(f.Value)
		if err != nil {
			return err
		}
		kind, c.keys = f.Value.Kind(), *keys
	default:
		return nil
	}
	if f.Value.Kind() != kind {
		return &PayloadError{Reason: f.Key + " is not of the right type"}
	}
	return nil
}
