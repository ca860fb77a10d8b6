package proxyproto

import "context"

type contextKey struct{}

// NewContext returns a context for dialing on behalf of a connection that header describes.
// header is called at each [FromContext].
func NewContext(ctx context.Context, header func() *Header) context.Context {
	return context.WithValue(ctx, contextKey{}, header)
}

// FromContext returns the header of [NewContext], or nil if there is none, as for a health
// check. A nil header stands for a connection of the sender itself.
func FromContext(ctx context.Context) *Header {
	if header, ok := ctx.Value(contextKey{}).(func() *Header); ok {
		return header()
	}
	return nil
}
