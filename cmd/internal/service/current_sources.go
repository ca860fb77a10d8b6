package service

import (
	"context"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// currentSources asks the sources that are in force now, even for a connection that began under
// an earlier policy. If the sources are replaced during the call, it asks again, because the
// old sources no longer report revocations.
type currentSources struct{ *Service }

var _ authz.Taker = currentSources{}

// Takes implements authz.Taker.
func (c currentSources) Takes() authz.Credentials { return c.current.Load().sources.guard.Takes() }

// Authorize implements authz.Authorizer.
func (c currentSources) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	for {
		s := c.current.Load().sources
		grant, err := s.guard.Authorize(ctx, r)
		if c.current.Load().sources == s {
			return grant, err
		}
	}
}
