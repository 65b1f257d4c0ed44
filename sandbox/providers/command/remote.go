package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"overlord/sandbox/providers/kit"
)

var remoteCommand = command("command:remote:Command", []kit.Field{connectionField}, runRemote)

func runRemote(c *call, in kit.Props, command string, previous kit.Props) (kit.Props, error) {
	conn, err := dial(c, in.Object("connection"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	session, err := conn.NewSession()
	if err != nil {
		return nil, err
	}
	defer func() { _ = session.Close() }()
	for name, value := range in.StringMap("environment") {
		if err := session.Setenv(name, value); err != nil {
			return nil, fmt.Errorf("cannot set the environment variable %q: the SSH server takes only names that its "+
				"AcceptEnv lists; write it before the command instead, as in %s=value command: %w", name, name, err)
		}
	}
	for _, variable := range previousOutput(in, previous) {
		if err := session.Setenv(variable[0], variable[1]); err != nil {
			c.Warn(fmt.Sprintf("cannot set the environment variable %q: the SSH server's AcceptEnv does not list it; "+
				"set addPreviousOutputInEnv to false if the command does not need it", variable[0]))
		}
	}
	if in.String("stdin") != "" {
		session.Stdin = strings.NewReader(in.String("stdin"))
	}
	shown := newOutput(c, in)
	session.Stdout, session.Stderr = shown.out(), shown.err()
	unlink := context.AfterFunc(c, func() { interrupt(session, conn) })
	err = session.Run(command)
	if !unlink() && c.Err() != nil {
		err = c.Err()
	}
	return shown.finish(command, err)
}

// interrupt ends a remote command: first by a signal, then by cutting the connection, which
// makes sshd hang up on the command.
func interrupt(session *ssh.Session, conn *ssh.Client) {
	_ = session.Signal(ssh.SIGTERM)
	time.Sleep(500 * time.Millisecond)
	_ = session.Close()
	_ = conn.Close()
}

// previousOutput is what the command printed the last time, unless the program does not want it.
func previousOutput(in, previous kit.Props) [][2]string {
	if in.Has("addPreviousOutputInEnv") && !in.Bool("addPreviousOutputInEnv") {
		return nil
	}
	var out [][2]string
	for _, variable := range [][2]string{{previousStdout, "stdout"}, {previousStderr, "stderr"}} {
		if text := previous.String(variable[1]); text != "" {
			out = append(out, [2]string{variable[0], text})
		}
	}
	return out
}
