//go:build !linux

package relay

import (
	"errors"
	"syscall"
)

// Pairs keep their goroutines where there is no epoll.
const canPark = false

type loop struct{}

// EventLoops returns how many loops a pump has.
func EventLoops() int { return 0 }

func (*Pump) loop() (*loop, error) { return nil, errors.ErrUnsupported }
func (*loop) add(*Session) error   { return errors.ErrUnsupported }
func (*loop) remove(*Session)      {}
func (*loop) set(int, *Session)    {}

func (*loop) pause(*Session, *direction) {}
func (*loop) stop()                      {}

func duplicate(syscall.RawConn) (descriptor, error) { return noDescriptor, errors.ErrUnsupported }
