package command

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"

	"overlord/sandbox/providers/kit"
)

// The variables that hand a command the output of its predecessor.
const (
	previousStdout = "PULUMI_COMMAND_STDOUT"
	previousStderr = "PULUMI_COMMAND_STDERR"
)

// output keeps what a command prints and shows each line on the resource while it runs.
type output struct {
	mu             sync.Mutex
	stdout, stderr bytes.Buffer
	both           bytes.Buffer
	lines          chan string
	shown          sync.WaitGroup
	logging        string
	partial        map[*bytes.Buffer]string
}

func newOutput(c *call, in kit.Props) *output {
	o := &output{lines: make(chan string, 1024), logging: in.String("logging"), partial: map[*bytes.Buffer]string{}}
	o.shown.Go(func() {
		for line := range o.lines {
			c.Status(line)
		}
	})
	return o
}

func (o *output) out() io.Writer {
	return &stream{o, &o.stdout, o.logging == "" || o.logging == "stdout" || o.logging == "stdoutAndStderr"}
}

func (o *output) err() io.Writer {
	return &stream{o, &o.stderr, o.logging == "" || o.logging == "stderr" || o.logging == "stdoutAndStderr"}
}

type stream struct {
	to   *output
	kept *bytes.Buffer
	show bool
}

func (s *stream) Write(data []byte) (int, error) {
	o := s.to
	o.mu.Lock()
	defer o.mu.Unlock()
	s.kept.Write(data)
	o.both.Write(data)
	if s.show {
		text := o.partial[s.kept] + string(data)
		for {
			line, rest, found := strings.Cut(text, "\n")
			if !found {
				break
			}
			o.lines <- strings.TrimRight(line, "\r")
			text = rest
		}
		o.partial[s.kept] = text
	}
	return len(data), nil
}

// finish ends the display and returns the outputs, or an error that holds all that was printed.
func (o *output) finish(command string, failed error) (kit.Props, error) {
	o.mu.Lock()
	for _, kept := range []*bytes.Buffer{&o.stdout, &o.stderr} {
		if rest := o.partial[kept]; rest != "" {
			o.lines <- rest
		}
	}
	o.mu.Unlock()
	close(o.lines)
	o.shown.Wait()
	if failed != nil {
		return nil, fmt.Errorf("%w: running %q:\n%s", failed, command, o.both.String())
	}
	return kit.Props{
		"stdout": strings.TrimSuffix(o.stdout.String(), "\n"),
		"stderr": strings.TrimSuffix(o.stderr.String(), "\n"),
	}, nil
}
