package authz

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Chain asks its sources in order until one knows the token.
//
// A source that answers with [ErrUnknown] passes the question on; a Grant or any
// other denial ends it. A source that is unavailable ends it too, as
// unavailable: the source behind it might hold a token that the first has
// disabled. An empty Chain knows no token.
type Chain []Authorizer

var (
	_ Authorizer = Chain(nil)
	_ Notifier   = Chain(nil)
)

// Authorize implements [Authorizer].
func (c Chain) Authorize(ctx context.Context, r Request) (*Grant, error) {
	for _, source := range c {
		g, err := source.Authorize(ctx, r)
		if err == nil || !errors.Is(err, ErrUnknown) {
			return g, err
		}
	}
	return nil, ErrUnknown
}

// Notify implements [Notifier]: it watches with every source that can. It
// returns the first fault, after the others have stopped.
func (c Chain) Notify(ctx context.Context, revoked func(Revocation)) error {
	watching, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	turn := make(chan struct{}, 1)
	serialized := func(r Revocation) {
		turn <- struct{}{}
		defer func() { <-turn }()
		revoked(r)
	}
	var wg sync.WaitGroup
	for i, source := range c {
		n, ok := source.(Notifier)
		if !ok {
			continue
		}
		wg.Go(func() {
			if err := n.Notify(watching, serialized); err != nil {
				stop(fmt.Errorf("source %d: %w", i, err))
			}
		})
	}
	wg.Wait()
	<-watching.Done()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(watching)
}
