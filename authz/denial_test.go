package authz_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func TestErrorKinds(t *testing.T) {
	for _, tc := range []struct {
		err                          error
		denied, unknown, unavailable bool
	}{
		{authz.ErrDenied, true, false, false},
		{authz.ErrUnknown, true, true, false},
		{authz.ErrUnavailable, false, false, true},
		{authz.ErrBusy, false, false, true},
		{authz.ErrThrottled, false, false, true},
		{context.Canceled, false, false, false},
		{&authz.Denial{}, true, false, false},
		{&authz.Denial{Reason: authz.Disabled}, true, false, false},
		{&authz.Denial{Reason: authz.Unknown}, true, true, false},
		{fmt.Errorf("ask: %w", &authz.Denial{Reason: authz.Unknown}), true, true, false},
		{errors.Join(errors.New("other"), &authz.Denial{Reason: authz.Expired}), true, false, false},
	} {
		denied, unknown, unavailable := errors.Is(tc.err, authz.ErrDenied), errors.Is(tc.err, authz.ErrUnknown), errors.Is(tc.err, authz.ErrUnavailable)
		if denied != tc.denied || unknown != tc.unknown || unavailable != tc.unavailable {
			t.Errorf("%v: denied %v, unknown %v, unavailable %v", tc.err, denied, unknown, unavailable)
		}
	}
	if errors.Is(authz.ErrBusy, authz.ErrThrottled) || errors.Is(authz.ErrThrottled, authz.ErrBusy) {
		t.Error("busy and throttled are one")
	}
}

func TestDenialText(t *testing.T) {
	for _, tc := range []struct {
		denial authz.Denial
		want   string
	}{
		{authz.Denial{Reason: authz.Disabled}, "denied: disabled"},
		{authz.Denial{Reason: authz.NotAuthorized, Detail: "quota"}, "denied: not_authorized: quota"},
	} {
		if got := tc.denial.Error(); got != tc.want {
			t.Errorf("Error = %q, want %q", got, tc.want)
		}
	}
}

func ExampleDenial() {
	err := fmt.Errorf("token file: %w", &authz.Denial{Reason: authz.Disabled, Detail: "token pump-7-k3x2aa"})
	if denial, ok := errors.AsType[*authz.Denial](err); ok {
		fmt.Println(denial.Reason, errors.Is(err, authz.ErrDenied), errors.Is(err, authz.ErrUnknown))
	}
	// Output: disabled true false
}
