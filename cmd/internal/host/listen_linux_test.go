package host

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
)

// TestWiderListenerTakesOver: a socket for every address takes the place of one for
// 127.0.0.1. One of them listens at any time, and afterwards the port belongs to the new
// socket alone.
func TestWiderListenerTakesOver(t *testing.T) {
	narrow, err := Listen("127.0.0.1:0", ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer narrow.Close()
	at := narrow.Addr().String()
	everywhere := fmt.Sprintf(":%d", narrow.Addr().(*net.TCPAddr).Port)
	if ln, err := Listen(everywhere, ListenOptions{}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("opened %v, %v without naming what is replaced", ln, err)
	}
	wide, err := Listen(everywhere, ListenOptions{Replaced: []net.Listener{narrow}})
	if err != nil {
		t.Fatal(err)
	}
	defer wide.Close()
	for _, ln := range []net.Listener{narrow, wide} {
		device, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		device.Close()
		narrow.Close()
	}
	if ln, err := net.Listen("tcp", at); err == nil {
		ln.Close()
		t.Error("another socket can listen on a part of the address")
	}
}

// TestDivertLosesNoConnection: connections that have begun can still be accepted, and
// those that begin later reach the other socket on the same address.
func TestDivertLosesNoConnection(t *testing.T) {
	ending, err := Listen("127.0.0.1:0", ListenOptions{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ending.Close()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", ending.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	var begun []net.Conn
	for range 20 {
		begun = append(begun, dial())
	}
	next, err := Listen(ending.Addr().String(), ListenOptions{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := Divert(ending); err != nil {
		t.Fatal(err)
	}
	late := make(chan net.Conn)
	for range 8 { // each reaches either socket, and half of them wait for ending to close
		go func() { late <- dial() }()
	}
	for range begun {
		conn, err := ending.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
	ending.Close()
	for i, conn := range begun {
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	for range 8 {
		<-late
		conn, err := next.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}
