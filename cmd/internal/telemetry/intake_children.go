package telemetry

import (
	"context"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// ChildTelemetry stores a payload that a gateway has published to v1/gateway/telemetry, all or none.
// Devices behind the gateway that were not known become known. Errors are those of
// [Intake.Telemetry]. It returns the names of the devices in the payload.
func (i *Intake) ChildTelemetry(ctx context.Context, gateway string, data []byte) (names []string, err error) {
	err = i.withMemory(ctx, data, func(now time.Time) error {
		children, err := payload.ParseChildren(data, now, i.grammar())
		if err != nil {
			return err
		}
		for _, c := range children {
			if err := i.checkAhead(c.Messages, now); err != nil {
				return err
			}
		}
		names, err = i.appendAll(ctx, gateway, now, children)
		return err
	})
	return names, err
}

// ChildAttributes is [Intake.ChildTelemetry] for what is published to v1/gateway/attributes.
func (i *Intake) ChildAttributes(ctx context.Context, gateway string, data []byte) (names []string, err error) {
	err = i.withMemory(ctx, data, func(now time.Time) error {
		children, err := payload.ParseChildAttributes(data, i.grammar())
		if err != nil {
			return err
		}
		names, err = i.appendAll(ctx, gateway, now, children)
		return err
	})
	return names, err
}

// Child makes a device behind a gateway known. Errors are those of [Intake.Telemetry].
func (i *Intake) Child(ctx context.Context, gateway, child string) error {
	if err := payload.CheckChild(child); err != nil {
		return err
	}
	return i.Store.AppendAll(ctx, []Part{{Device: ChildID(gateway, child)}})
}

// appendAll stores what the devices behind a gateway have sent, and returns their names.
func (i *Intake) appendAll(ctx context.Context, gateway string, now time.Time, children []payload.Child) (names []string, err error) {
	if len(children) == 0 {
		return nil, nil
	}
	names = make([]string, len(children))
	parts := make([]Part, len(children))
	for k, c := range children {
		names[k] = c.Name
		parts[k] = Part{Device: ChildID(gateway, c.Name), Messages: c.Messages, Attributes: c.Fields, Updated: now.UnixMilli()}
	}
	if err := i.Store.AppendAll(ctx, parts); err != nil {
		return nil, err
	}
	for _, p := range parts {
		if err := i.stored(ctx, p); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// stored reports what was stored of a device behind a gateway.
func (i *Intake) stored(ctx context.Context, p Part) error {
	if len(p.Messages) > 0 && i.StoredTelemetry != nil {
		if err := i.StoredTelemetry(ctx, p.Device, p.Messages); err != nil {
			return err
		}
	}
	if len(p.Attributes) > 0 && i.StoredAttributes != nil {
		return i.StoredAttributes(ctx, p.Device, p.Updated, p.Attributes)
	}
	return nil
}
