package proxy_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenhttp"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// A program that embeds the proxy: it asks a token service behind a cache, connects
// clients to a broker, ends sessions whose tokens are withdrawn, and shuts down in order.
func Example() {
	tokenService, broker := startTokenService(), startBroker()
	defer tokenService.Close()
	defer broker.Close()

	// The token source, and a cache in front of it.
	source, err := tokenhttp.New(tokenhttp.Options{URL: tokenService.URL})
	if err != nil {
		log.Fatal(err)
	}
	answers := cache.New(source, cache.Options{Source: "service", Vary: source.Parts()})
	defer answers.Close()

	// The broker. A pool may have several.
	address, err := upstream.ParseServer("tcp://" + broker.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	brokers := pool.New(pool.Options{Servers: []pool.Server{{Server: address}}, Dial: new(upstream.Dialer).Dial})

	// The proxy. The hooks are for logs and metrics.
	events := make(chan string, 1)
	srv := &proxy.Server{Trace: proxy.Trace{
		Opened:  func(c *proxy.Client) { events <- c.Subject() + " is connected" },
		Refused: func(r proxy.Refusal) { events <- "refused: " + string(r.Reason) },
		Closed:  func(c *proxy.Client, e proxy.End) { events <- fmt.Sprintf("%s is gone: %v", c.Subject(), e.Err) },
	}}
	err = srv.SetPolicy(&proxy.Policy{
		Authorizer: answers,
		Upstream:   brokers,
		Rewrite: func(r *proxy.ConnectRequest) error {
			r.Out.Username, r.Out.HasUsername = r.Client.Subject(), true
			return nil
		},
		Limits: proxy.Limits{Connections: 10_000, Pending: 1_000, PerAddress: 100},
	})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { brokers.Run(ctx) })
	running.Go(func() {
		if err := srv.Watch(ctx, answers); err != nil { // revocations that the source reports
			log.Print(err)
		}
	})
	running.Go(func() { fmt.Println(srv.Serve(&proxy.Listener{Listener: ln, Name: "mqtt"})) })

	connectDevice(ln.Addr().String(), "wrong")
	fmt.Println(<-events)
	connectDevice(ln.Addr().String(), "s3cret")
	fmt.Println(<-events)

	// An operator withdraws a token: first no new session may use it, then the sessions
	// that do are ended.
	withdrawn := authz.Revocation{Subject: "pump-7"}
	answers.Revoke(withdrawn)
	srv.Kick(func(c *proxy.Client) bool { return withdrawn.Matches(c.Grant, c.TokenHash) }, proxy.ErrRevoked)
	fmt.Println(<-events)

	// Shutdown gives clients, and the broker, time for a proper end.
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(within); err != nil {
		log.Print(err)
	}
	stop()
	running.Wait()
	// Output:
	// refused: unknown_token
	// pump-7 is connected
	// pump-7 is gone: revoked
	// proxy: server closed
}

// startTokenService starts a token service that knows one token.
func startTokenService() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body [1024]byte
		n, _ := r.Body.Read(body[:])
		w.Header().Set("Content-Type", "application/json")
		if !strings.Contains(string(body[:n]), `"s3cret"`) {
			fmt.Fprint(w, `{"result":"deny","reason_code":"bad_credentials"}`)
			return
		}
		fmt.Fprint(w, `{"result":"allow","subject":"pump-7"}`)
	}))
}

// startBroker starts a broker that accepts every CONNECT.
func startBroker() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					raw, err := packets.ReadPacket(conn, 1<<16)
					if err != nil {
						return
					}
					if packets.Type(raw[0]>>4) == packets.CONNECT {
						_, _ = conn.Write((&packets.Connack{}).Append(nil, 4))
					}
				}
			}()
		}
	}()
	return ln
}

// connectDevice connects a device whose user name is its token.
func connectDevice(address, token string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	connect := packets.Connect{Level: 4, CleanStart: true, ClientID: "pump-7", Username: token, HasUsername: true}
	if _, err := conn.Write(connect.Append(nil)); err != nil {
		log.Fatal(err)
	}
	go func() {
		defer conn.Close()
		_, _ = io.Copy(io.Discard, conn)
	}()
}
