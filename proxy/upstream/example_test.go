package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

func ExampleParseServer() {
	for _, text := range []string{"tcp://broker", "tls://[2001:db8::1]", "unix:///run/broker.sock", "broker:1883"} {
		server, err := upstream.ParseServer(text)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(server)
	}
	// Output:
	// tcp://broker:1883
	// tls://[2001:db8::1]:8883
	// unix:///run/broker.sock
	// has no scheme; write tcp://host:port, tls://host:port or unix:///path
}

func ExampleDialer_Dial() {
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = broker.Close() }()
	go func() {
		if conn, err := broker.Accept(); err == nil {
			_, _ = io.WriteString(conn, "hello from the broker")
			_ = conn.Close()
		}
	}()

	server, err := upstream.ParseServer("tcp://" + broker.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := new(upstream.Dialer).Dial(ctx, server)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	greeting, _ := io.ReadAll(conn)
	fmt.Printf("%s\n", greeting)
	// Output: hello from the broker
}

func ExampleTemplate_Expand() {
	template, err := upstream.ParseTemplate("${attrs.site}/${client_id}", upstream.ClientID)
	if err != nil {
		fmt.Println(err)
		return
	}
	north := map[string]string{"site": "north"}
	fmt.Println(template.Expand(upstream.Values{ClientID: "pump/7", Attrs: north}))

	_, err = template.Expand(upstream.Values{ClientID: "pump-7"})
	fmt.Println(err)

	// A site with a slash could be mistaken for another site's client id.
	_, err = template.Expand(upstream.Values{ClientID: "7", Attrs: map[string]string{"site": "north/pump"}})
	if fault, ok := errors.AsType[*upstream.ValueError](err); ok {
		fmt.Println(fault.Placeholder, fault.Problem)
	}
	// Output:
	// north/pump/7 <nil>
	// ${attrs.site} is not among the attributes of the grant
	// attrs.site contains the character that separates it from the next placeholder
}
