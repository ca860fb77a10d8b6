package service

import (
	"context"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/replicas"
)

// mostChanged is how many changes of other replicas wait until devices get them.
const mostChanged = 1000

// attributesChanged lets devices that have sessions here get the shared attributes that another
// replica has changed. It does not wait for that.
func (s *Service) attributesChanged(all []replicas.Change) {
	if s.bundled == nil {
		return
	}
	for _, c := range all {
		if !s.bundled.broker.Has(c.Device) {
			continue
		}
		select {
		case s.bundled.changed <- c:
		default:
			s.notSent(c.Device, "too many changes are waiting")
		}
	}
}

// repeatChanges sends devices what attributesChanged has noted, until ctx is done.
func (s *Service) repeatChanges(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-s.bundled.changed:
			if err := s.bundled.shared.RepeatShared(ctx, c.Device, c.Keys); err != nil && ctx.Err() == nil {
				s.notSent(c.Device, err.Error())
			}
		}
	}
}

// notSent warns of a device that must ask for a change.
func (s *Service) notSent(device, why string) {
	s.Log.Warn("a device does not get shared attributes that another proxy has changed, until it asks", zap.String("device", device), zap.String("error", why))
}
