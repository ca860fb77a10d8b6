package proxyproto

import "context"

type contextKey struct{}

// NewContext returns ctx with what whoever dials is to say about the connection
// that it is for. header is called only if somebody wants to know, with every
// [FromContext].
func NewContext(ctx context.Context, header func() *Header) context.Context {
	return context.WithValue(ctx, contextKey{}, header)
}

// FromContext returns the header of [NewContext]. It is nil, which appends as that
// of the sender's own connection, if there is none: a health check, for example.
func FromContext(ctx context.Context) *Header {
	if header, ok := ctx.Value(contextKey{}).(func() *Header); ok {
		return header()
	}
	return nil
}
