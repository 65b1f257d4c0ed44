package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"overlord/sandbox/providers/kit"
)

var endpointFields = []kit.Field{
	{Name: "host", Type: kit.String, Required: true},
	{Name: "port", Type: kit.Number, Default: 22.0},
	{Name: "user", Type: kit.String, Default: "root"},
	{Name: "password", Type: kit.String},
	{Name: "privateKey", Type: kit.String},
	{Name: "privateKeyPassword", Type: kit.String},
	{Name: "hostKey", Type: kit.String},
	{Name: "agentSocketPath", Type: kit.String},
	{Name: "dialErrorLimit", Type: kit.Number, Default: 10.0},
	{Name: "perDialTimeout", Type: kit.Number, Default: 15.0},
}

var connectionField = kit.Field{
	Name: "connection", Type: kit.Object, Required: true, Secret: true,
	Elem: append([]kit.Field{{Name: "proxy", Type: kit.Object, Elem: endpointFields}}, endpointFields...),
}

// dial connects to the host of a connection, through its proxy when it has one.
func dial(c *call, to kit.Props) (*ssh.Client, error) {
	config, err := clientConfig(to)
	if err != nil {
		return nil, err
	}
	proxy := to.Object("proxy")
	if proxy == nil {
		return attempt(c, "Dial", to, func() (*ssh.Client, error) {
			conn, err := (&net.Dialer{Timeout: config.Timeout}).DialContext(c, "tcp", address(to))
			if err != nil {
				return nil, err
			}
			return handshake(c, conn, address(to), config)
		})
	}
	bridge, err := dial(c, proxy)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return attempt(c, "Dial from proxy", to, func() (*ssh.Client, error) {
		conn, err := bridge.DialContext(c, "tcp", address(to))
		if err != nil {
			return nil, err
		}
		return handshake(c, conn, address(to), config)
	})
}

// attempt tries until it works, the limit of failures is passed, or the engine cancels. A host
// that boots refuses connections, and shows another key until it has installed its own.
func attempt(c *call, what string, to kit.Props, do func() (*ssh.Client, error)) (*ssh.Client, error) {
	limit := to.Int("dialErrorLimit")
	pause := 100 * time.Millisecond
	for failures := int64(1); ; failures++ {
		client, err := do()
		if err == nil {
			return client, nil
		}
		if limit >= 0 && failures > limit {
			return nil, fmt.Errorf("cannot connect to %s as %s after %d failed attempts: %w",
				address(to), to.String("user"), failures-1, err)
		}
		shown := "inf"
		if limit >= 0 {
			shown = strconv.FormatInt(limit, 10)
		}
		c.Status(fmt.Sprintf("%s %d/%s failed: retrying", what, failures, shown))
		select {
		case <-c.Done():
			return nil, c.Err()
		case <-time.After(pause):
		}
		pause = min(pause*3/2, 5*time.Second)
	}
}

// handshake gives the SSH handshake the same time limit as the connection: a host that accepts
// connections and then says nothing must not hold an update forever.
func handshake(ctx context.Context, conn net.Conn, host string, config *ssh.ClientConfig) (*ssh.Client, error) {
	unlink := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer unlink()
	var timer *time.Timer
	if config.Timeout > 0 {
		timer = time.AfterFunc(config.Timeout, func() { _ = conn.Close() })
	}
	sshConn, channels, requests, err := ssh.NewClientConn(conn, host, config)
	if err == nil && timer != nil && !timer.Stop() {
		err = errors.New("the SSH handshake took too long")
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return ssh.NewClient(sshConn, channels, requests), nil
}

func clientConfig(to kit.Props) (*ssh.ClientConfig, error) {
	config := &ssh.ClientConfig{
		User:            to.String("user"),
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // as documented: without hostKey any key is taken
		Timeout:         time.Duration(to.Int("perDialTimeout")) * time.Second,
	}
	if to.Has("hostKey") {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(to.String("hostKey")))
		if err != nil {
			return nil, fmt.Errorf("connection.hostKey: %w (write it like \"ssh-ed25519 AAAA…\")", err)
		}
		config.HostKeyCallback = ssh.FixedHostKey(key)
	}
	if to.Has("privateKey") {
		signer, err := parseKey(to)
		if err != nil {
			return nil, fmt.Errorf("connection.privateKey: %w", err)
		}
		config.Auth = append(config.Auth, ssh.PublicKeys(signer))
	}
	if to.Has("password") {
		password := to.String("password")
		config.Auth = append(config.Auth, ssh.Password(password), ssh.KeyboardInteractive(
			func(_, _ string, questions []string, _ []bool) ([]string, error) {
				answers := make([]string, len(questions))
				for i := range answers {
					answers[i] = password
				}
				return answers, nil
			}))
	}
	socket := to.String("agentSocketPath")
	if socket == "" {
		socket = os.Getenv("SSH_AUTH_SOCK")
	}
	if socket != "" {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return nil, fmt.Errorf("the SSH agent at %s: %w", socket, err)
		}
		config.Auth = append(config.Auth, ssh.PublicKeysCallback(agent.NewClient(conn).Signers))
	}
	return config, nil
}

func parseKey(to kit.Props) (ssh.Signer, error) {
	key := []byte(to.String("privateKey"))
	if to.Has("privateKeyPassword") {
		return ssh.ParsePrivateKeyWithPassphrase(key, []byte(to.String("privateKeyPassword")))
	}
	return ssh.ParsePrivateKey(key)
}

func address(to kit.Props) string {
	return net.JoinHostPort(to.String("host"), strconv.FormatInt(to.Int("port"), 10))
}
