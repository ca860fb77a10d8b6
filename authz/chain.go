package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Chain asks its sources in order until one knows the token, or the user name of the pair.
// A source sees of these only what it takes, see [Taker], and is passed over if the device
// has not sent that.
//
// If a source answers with [ErrUnknown], the next one is asked; a Grant or any other denial is
// the answer. A source that is unavailable ends the search too, because a later source might
// grant a token that this one has disabled. If a source is only unsure ([ErrUnsure]), the next
// one is asked, and the error is the answer unless a later source grants.
//
// If no source knows the token, the denial contains the detail from each of them. An empty
// Chain knows no token.
type Chain []Authorizer

var (
	_ Authorizer = Chain(nil)
	_ Notifier   = Chain(nil)
	_ Taker      = Chain(nil)
)

// Takes implements [Taker].
func (c Chain) Takes() (all Credentials) {
	for _, source := range c {
		all |= Takes(source)
	}
	return all
}

// Authorize implements [Authorizer].
func (c Chain) Authorize(ctx context.Context, r Request) (*Grant, error) {
	var unsure error
	var details []string
	wantPair := false
	for _, source := range c {
		g, err := ask(ctx, source, r)
		switch {
		case err == nil:
			return g, nil
		case errors.Is(err, errNoPair):
			wantPair = true
		case errors.Is(err, ErrUnknown):
			if d, ok := errors.AsType[*Denial](err); ok && d.Detail != "" && !slices.Contains(details, d.Detail) {
				details = append(details, d.Detail)
			}
		case unsure != nil:
			return nil, unsure
		case errors.Is(err, ErrUnsure):
			unsure = err
		default:
			return nil, err
		}
	}
	switch {
	case unsure != nil:
		return nil, unsure
	case details == nil && wantPair:
		return nil, errNoPair
	case details == nil:
		return nil, ErrUnknown
	}
	return nil, &Denial{Reason: Unknown, Detail: strings.Join(details, "; ")}
}

// ask asks a source about the part of r that it takes.
func ask(ctx context.Context, source Authorizer, r Request) (*Grant, error) {
	takes := Takes(source)
	r, ok := r.only(takes)
	switch {
	case ok:
		return source.Authorize(ctx, r)
	case takes == Pairs:
		return nil, errNoPair
	}
	return nil, ErrUnknown
}

// errNoPair is the answer for a source that takes only pairs, if the client has sent none.
// It says more than ErrUnknown only if no other source has said anything.
var errNoPair = &Denial{Reason: Unknown, Detail: "no user name and password"}

// Notify implements [Notifier]: it watches with every source that is a Notifier. It returns the
// first error, after all have stopped. If one of them panics, Notify panics in the caller's
// goroutine, after the others have stopped.
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
	panics := make(chan any, len(c))
	for i, source := range c {
		n, ok := source.(Notifier)
		if !ok {
			continue
		}
		wg.Go(func() {
			defer func() {
				if value := recover(); value != nil {
					panics <- value
					stop(nil)
				}
			}()
			if err := n.Notify(watching, serialized); err != nil {
				stop(fmt.Errorf("source %d: %w", i, err))
			}
		})
	}
	wg.Wait()
	<-watching.Done()
	select {
	case value := <-panics:
		panic(value)
	default:
	}
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(watching)
}
