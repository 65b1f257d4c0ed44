package hcloud

import (
	"fmt"
	"net"
	"strings"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"overlord/sandbox/providers/kit"
)

// owners are the kinds of objects that have addresses, by the letter in a reverse DNS id.
var owners = []struct{ letter, field string }{
	{"s", "serverId"}, {"p", "primaryIpId"}, {"f", "floatingIpId"}, {"l", "loadBalancerId"},
}

var reverseDNS = kit.Resource[*hcloud.Client]{
	Token: "hcloud:index/rdns:Rdns",
	Fields: []kit.Field{
		{Name: "dnsPtr", Type: kit.String, Required: true},
		{Name: "ipAddress", Type: kit.String, Required: true, Replace: true, Same: sameAddress},
		{Name: "serverId", Type: kit.Number, Replace: true},
		{Name: "primaryIpId", Type: kit.Number, Replace: true},
		{Name: "floatingIpId", Type: kit.Number, Replace: true},
		{Name: "loadBalancerId", Type: kit.Number, Replace: true},
	},

	Check: func(in kit.Props) []kit.Failure {
		given := 0
		for _, owner := range owners {
			if _, ok := in[owner.field]; ok {
				given++
			}
		}
		if given == 1 {
			return nil
		}
		return []kit.Failure{{Property: "primaryIpId", Reason: "exactly one of \"serverId\", \"primaryIpId\", " +
			"\"floatingIpId\" and \"loadBalancerId\" must be set"}}
	},

	Create: func(c *call, in kit.Props) (kit.Result, error) {
		ip := net.ParseIP(in.String("ipAddress"))
		if ip == nil {
			return kit.Result{}, fmt.Errorf("ipAddress: %q is not an address", in.String("ipAddress"))
		}
		for _, owner := range owners {
			if !in.Has(owner.field) {
				continue
			}
			id := fmt.Sprintf("%s-%d-%s", owner.letter, in.Int(owner.field), ip)
			holder, _, err := lookup(c, id)
			if err != nil {
				return kit.Result{}, err
			}
			if holder == nil {
				return kit.Result{}, fmt.Errorf("%s: there is no object with id %d", owner.field, in.Int(owner.field))
			}
			name := in.String("dnsPtr")
			return kit.Result{ID: id}, changePointer(c, holder, ip, &name)
		}
		return kit.Result{}, fmt.Errorf("no owner of the address was given")
	},

	Read: func(c *call, id string, _ kit.Props) (kit.Result, error) {
		holder, ip, err := lookup(c, id)
		if err != nil || holder == nil {
			return kit.Result{}, err
		}
		name, err := holder.GetDNSPtrForIP(ip)
		if err != nil {
			// The owner is there, but no longer names this address.
			return kit.Result{}, nil
		}
		live := kit.Props{"dnsPtr": name, "ipAddress": ip.String()}
		letter, number, _ := splitPointerID(id)
		for _, owner := range owners {
			if owner.letter == letter {
				live[owner.field] = float64(number)
			}
		}
		return kit.Result{ID: id, Live: live}, nil
	},

	Update: func(c *call, id string, _, in kit.Props, changed func(string) bool) (kit.Result, error) {
		holder, ip, err := lookup(c, id)
		if err != nil || holder == nil || !changed("dnsPtr") {
			return kit.Result{}, err
		}
		name := in.String("dnsPtr")
		return kit.Result{}, changePointer(c, holder, ip, &name)
	},

	Delete: func(c *call, id string, _ kit.Props) error {
		holder, ip, err := lookup(c, id)
		if err != nil || holder == nil {
			return err
		}
		return changePointer(c, holder, ip, nil)
	},
}

func changePointer(c *call, holder hcloud.RDNSSupporter, ip net.IP, name *string) error {
	action, _, err := c.Client.RDNS.ChangeDNSPtr(c, holder, ip, name)
	if err != nil {
		return err
	}
	return wait(c, action)
}

func splitPointerID(id string) (letter string, number int64, ip net.IP) {
	parts := strings.SplitN(id, "-", 3)
	if len(parts) != 3 {
		return "", 0, nil
	}
	number, err := parseID(parts[1])
	if err != nil {
		return "", 0, nil
	}
	return parts[0], number, net.ParseIP(parts[2])
}

// lookup finds the owner of a reverse DNS id like p-42-192.0.2.1. The owner is nil when it is gone.
func lookup(c *call, id string) (hcloud.RDNSSupporter, net.IP, error) {
	letter, number, ip := splitPointerID(id)
	if ip == nil {
		return nil, nil, fmt.Errorf("%q is not the id of a reverse DNS entry: it must look like p-42-192.0.2.1", id)
	}
	// Each branch returns by itself: a nil pointer inside the interface would not be nil.
	switch letter {
	case "s":
		if found, _, err := c.Client.Server.GetByID(c, number); err != nil || found != nil {
			return found, ip, err
		}
	case "p":
		if found, _, err := c.Client.PrimaryIP.GetByID(c, number); err != nil || found != nil {
			return found, ip, err
		}
	case "f":
		if found, _, err := c.Client.FloatingIP.GetByID(c, number); err != nil || found != nil {
			return found, ip, err
		}
	case "l":
		if found, _, err := c.Client.LoadBalancer.GetByID(c, number); err != nil || found != nil {
			return found, ip, err
		}
	default:
		return nil, nil, fmt.Errorf("%q is not the id of a reverse DNS entry: it must start with s-, p-, f- or l-", id)
	}
	return nil, ip, nil
}

func sameAddress(old, wanted any) bool {
	a, _ := old.(string)
	b, _ := wanted.(string)
	ip := net.ParseIP(a)
	return ip != nil && ip.Equal(net.ParseIP(b))
}
