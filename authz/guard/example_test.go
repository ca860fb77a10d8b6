package guard_test

import (
	"context"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/guard"
)

func Example() {
	tokenService := authorizeFunc(byToken)
	answers := cache.New(tokenService, cache.Options{})
	defer answers.Close()
	form := guard.NewPrecheck(answers, guard.Format{MinLength: 4})
	front := guard.New(form, guard.Options{Burst: 3, Rate: 0.001})

	for _, token := range []string{"good-device", "x", "guess1", "guess1", "guess2", "guess3", "good-device"} {
		_, err := front.Authorize(context.Background(), request(token, "192.0.2.1"))
		fmt.Println(token, err)
	}
	// Output:
	// good-device <nil>
	// x denied: unknown_token: the token is too short
	// guess1 service: denied: unknown_token
	// guess1 denied: unknown_token
	// guess2 service: denied: unknown_token
	// guess3 unavailable: too many failures from this address
	// good-device <nil>
}
