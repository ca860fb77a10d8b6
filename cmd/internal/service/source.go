package service

import (
	"context"
	"errors"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

// source is one token source of any kind. All code outside the constructors uses this
// interface, with the optional interfaces below, which [find] looks for, and with
// [authz.Notifier].
//
// A constructor has no side effects: it makes the source from its section of the configuration
// and checks the section, so that the check command can call it, too.
type source interface {
	authz.Authorizer

	// Takes says whether the source looks at tokens, at pairs or at both.
	Takes() authz.Credentials

	// Open reads what the source needs before it can answer. It is called once, before all
	// other methods except Close.
	Open(ctx context.Context, env sourceEnv) error

	// Reload reads now what the source otherwise reads at its own times. It returns an error if
	// the newest version is not in effect.
	Reload(ctx context.Context) error

	// Fault returns why the newest version of what the source has read is not in effect, or
	// nil. The last valid version stays in effect.
	Fault() error

	// Collect makes the metrics that only sources of this kind have. A new kind adds a method
	// for them to [observe.SourceMetrics].
	Collect(m observe.SourceMetrics)

	// Close ends the goroutines and connections of the source. The source must still answer
	// afterwards, because connections that have already begun may ask it.
	Close()
}

// sourceEnv is the part of the service that a source may use.
type sourceEnv struct {
	log      *observe.Log
	observer *observe.Observer
	// workers bound the checks of passwords, for all sources together.
	workers *passwordhash.Workers
	// recheck asks again about the live sessions that are rechecked at all.
	recheck func()
	// trim has memory returned to the system that has become free.
	trim func()
	// explain adds to the text of an error how the sandbox may have caused it.
	explain func(text string) string
}

// manyEntries is the number of entries from which on it is worth a collection of the garbage to
// return the memory that was used while they were read.
const manyEntries = 100_000

// fileRead is called after a version of a file was read, in effect or not. The file in effect has
// that many entries.
func (e sourceEnv) fileRead(entries int) {
	if entries >= manyEntries {
		e.trim()
	}
}

// A local source answers from memory, so it is also asked about tokens from addresses that have
// used up their budget. Every other source counts as asked over a network: file descriptors are
// reserved for its requests, and the name of its host is added to its errors if there are
// several such sources.
type local interface{ AnswersFromMemory() }

// A confirmer knows its tokens by their digests. When it is added to the configuration, it can
// therefore decide about the live sessions, whose tokens are no longer known.
type confirmer interface {
	// Confirms reports whether the source knows the token with that SHA-256 digest, and whether
	// a session with the grant may continue.
	Confirms(tokenHash [32]byte, g *authz.Grant) (known, good bool)
}

// A rememberer stores answers and can forget them. Its methods return how many it has
// forgotten.
type rememberer interface {
	Revoke(authz.Revocation) (entries int)
	Purge() (entries int)
}

// A faultLogger logs its faults itself when they occur.
type faultLogger interface{ LogsFaults() }

// A prober reads files when it is opened. Probe reads them without any effect, so that the
// check command finds out whether the source of the configuration c could be opened.
type prober interface{ Probe(c *config.Config) error }

// A hosted source asks a host, whose name is added to its faults.
type hosted interface{ Host() string }

// A reporter has a section of its own in /v1/status.
type reporter interface{ report(*admin.Status) }

// find returns the first of s and the sources that it wraps that is a T.
func find[T any](s source) (found T, ok bool) {
	for s != nil {
		if found, ok = s.(T); ok {
			return found, true
		}
		wrapper, wraps := s.(interface{ Unwrap() source })
		if !wraps {
			break
		}
		s = wrapper.Unwrap()
	}
	return found, false
}

// newSource makes the source that c describes. It also returns the kind, which is the key of
// its section in the configuration. Before the constructor reads a file that is not read again
// later, it adds the file to in.
func newSource(c config.Source, whole *config.Config, version string, in inputs) (kind string, s source, err error) {
	switch {
	case c.HTTP != nil:
		s, err = newHTTPSource(c.HTTP, whole, version, in)
		return "http", s, err
	case c.JWT != nil:
		s, err = newJWTSource(c.JWT)
		return "jwt", s, err
	case c.File != nil:
		return "file", newFileSource(c.File), nil
	case c.Passwd != nil:
		return "passwd", newPasswdSource(c.Passwd), nil
	case c.Postgres != nil:
		s, err = newPostgresSource(c.Postgres, whole)
		return "postgres", s, err
	}
	return "", nil, errors.New("a kind of source that is not supported")
}
