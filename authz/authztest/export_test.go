package authztest

import "testing"

// Checks returns the rules by name, so that a test can run one of them for an Authorizer that
// breaks it.
func Checks() map[string]func(testing.TB, Suite) {
	m := make(map[string]func(testing.TB, Suite))
	for _, c := range checks() {
		m[c.name] = c.run
	}
	return m
}

// Fault returns what is wrong with the suite itself.
func (s Suite) Fault() string { return s.fault() }
