//go:build linux

package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
)

// runRelay is the simplest relay in Go: for each connection two goroutines with io.Copy, and
// crypto/tls. It does not know MQTT.
func runRelay(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("relay: want PLAIN TLS DIR BROKER, have %q", args)
	}
	plain, secure, dir, broker := args[0], args[1], args[2], args[3]
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return err
	}
	plainListener, err := net.Listen("tcp", plain)
	if err != nil {
		return err
	}
	secureListener, err := tls.Listen("tcp", secure, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	if err != nil {
		return err
	}
	go collectOnSignal()
	failed := make(chan error, 2)
	for _, ln := range []net.Listener{plainListener, secureListener} {
		go func() { failed <- relayAll(ln, broker) }()
	}
	return <-failed
}

func relayAll(ln net.Listener, broker string) error {
	for {
		client, err := ln.Accept()
		if err != nil {
			return err
		}
		go relayOne(client, broker)
	}
}

func relayOne(client net.Conn, broker string) {
	defer client.Close()
	upstream, err := net.Dial("tcp", broker)
	if err != nil {
		return
	}
	defer upstream.Close()
	var up sync.WaitGroup
	up.Go(func() { copyHalf(upstream, client) })
	copyHalf(client, upstream)
	up.Wait()
}

// copyHalf copies one direction and passes on its end.
func copyHalf(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
