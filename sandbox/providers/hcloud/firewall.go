package hcloud

import (
	"fmt"
	"net"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"overlord/sandbox/providers/kit"
)

var addressBlock = []kit.Field{{Type: kit.String, Validate: validateBlock, Same: sameBlock}}

var firewall = kit.Resource[*hcloud.Client]{
	Token: "hcloud:index/firewall:Firewall",
	Fields: []kit.Field{
		{Name: "name", Type: kit.String, Autoname: 128},
		{Name: "labels", Type: kit.Map, Validate: validateLabels},
		{Name: "rules", Type: kit.Set, Elem: []kit.Field{
			{Name: "direction", Type: kit.String, Required: true, Validate: kit.OneOf("in", "out")},
			{Name: "protocol", Type: kit.String, Required: true, Validate: kit.OneOf("tcp", "udp", "icmp", "esp", "gre")},
			{Name: "port", Type: kit.String},
			{Name: "sourceIps", Type: kit.Set, Elem: addressBlock},
			{Name: "destinationIps", Type: kit.Set, Elem: addressBlock},
			{Name: "description", Type: kit.String},
		}},
		{Name: "applyTos", Type: kit.Set, Computed: true, Elem: []kit.Field{
			{Name: "server", Type: kit.Number},
			{Name: "labelSelector", Type: kit.String},
		}},
	},

	Check: func(in kit.Props) []kit.Failure {
		var failures []kit.Failure
		for i, rule := range in.Objects("rules") {
			where := fmt.Sprintf("rules[%d]", i)
			_, port := rule["port"]
			switch protocol := rule.String("protocol"); {
			case (protocol == "tcp" || protocol == "udp") && !port:
				failures = append(failures, kit.Failure{Property: where + ".port", Reason: "a tcp or udp rule needs a port"})
			case protocol != "" && protocol != "tcp" && protocol != "udp" && port:
				failures = append(failures, kit.Failure{Property: where + ".port", Reason: "only tcp and udp rules have a port"})
			}
		}
		return failures
	},

	Create: func(c *call, in kit.Props) (kit.Result, error) {
		created, _, err := c.Client.Firewall.Create(c, hcloud.FirewallCreateOpts{
			Name:    in.String("name"),
			Labels:  in.StringMap("labels"),
			Rules:   rules(in),
			ApplyTo: firewallTargets(in.Objects("applyTos")),
		})
		if err != nil {
			return kit.Result{}, err
		}
		return kit.Result{ID: formatID(created.Firewall.ID)}, wait(c, created.Actions...)
	},

	Read: byID(findFirewall, func(found *hcloud.Firewall, _ kit.Props) kit.Props {
		live := []any{}
		for _, rule := range found.Rules {
			live = append(live, ruleProps(rule))
		}
		targets := []any{}
		for _, target := range found.AppliedTo {
			switch target.Type {
			case hcloud.FirewallResourceTypeServer:
				targets = append(targets, map[string]any{"server": float64(target.Server.ID)})
			case hcloud.FirewallResourceTypeLabelSelector:
				targets = append(targets, map[string]any{"labelSelector": target.LabelSelector.Selector})
			}
		}
		return kit.Props{
			"name": found.Name, "labels": kit.TextMap(found.Labels), "rules": live, "applyTos": targets,
		}
	}),

	Update: func(c *call, id string, state, in kit.Props, changed func(string) bool) (kit.Result, error) {
		number, err := parseID(id)
		if err != nil {
			return kit.Result{}, err
		}
		target := &hcloud.Firewall{ID: number}
		if changed("name") {
			if _, _, err := c.Client.Firewall.Update(c, target, hcloud.FirewallUpdateOpts{Name: in.String("name")}); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("rules") {
			actions, _, err := c.Client.Firewall.SetRules(c, target, hcloud.FirewallSetRulesOpts{Rules: rules(in)})
			if err != nil {
				return kit.Result{}, err
			}
			if err := wait(c, actions...); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("applyTos") {
			old, wanted := firewallTargets(state.Objects("applyTos")), firewallTargets(in.Objects("applyTos"))
			if err := moveFirewall(c, number, old, wanted); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("labels") {
			if _, _, err := c.Client.Firewall.Update(c, target, hcloud.FirewallUpdateOpts{Labels: labels(in)}); err != nil {
				return kit.Result{}, err
			}
		}
		return kit.Result{}, nil
	},

	Delete: deleteByID(func(c *call, number int64, _ kit.Props) error {
		found, _, err := findFirewall(c, number)
		if err != nil || found == nil {
			return err
		}
		// A server on its way out still counts as a user of the firewall.
		var users []hcloud.FirewallResource
		for _, target := range found.AppliedTo {
			if target.Type == hcloud.FirewallResourceTypeServer {
				user, _, err := c.Client.Server.GetByID(c, target.Server.ID)
				if err != nil {
					return err
				}
				if user == nil {
					continue
				}
			}
			users = append(users, target)
		}
		if err := moveFirewall(c, number, users, nil); err != nil {
			return err
		}
		return retry(c, 5, func() error {
			_, err := c.Client.Firewall.Delete(c, found)
			return err
		}, func(err error) bool {
			return hcloud.IsError(err, hcloud.ErrorCodeConflict, hcloud.ErrorCodeResourceInUse)
		})
	}),
}

func findFirewall(c *call, id int64) (*hcloud.Firewall, *hcloud.Response, error) {
	return c.Client.Firewall.GetByID(c, id)
}

func rules(in kit.Props) []hcloud.FirewallRule {
	out := []hcloud.FirewallRule{}
	for _, rule := range in.Objects("rules") {
		made := hcloud.FirewallRule{
			Direction:      hcloud.FirewallRuleDirection(rule.String("direction")),
			Protocol:       hcloud.FirewallRuleProtocol(rule.String("protocol")),
			SourceIPs:      blocks(rule.Strings("sourceIps")),
			DestinationIPs: blocks(rule.Strings("destinationIps")),
		}
		if port := rule.String("port"); port != "" {
			made.Port = &port
		}
		if description := rule.String("description"); description != "" {
			made.Description = &description
		}
		out = append(out, made)
	}
	return out
}

func ruleProps(rule hcloud.FirewallRule) map[string]any {
	out := map[string]any{"direction": string(rule.Direction), "protocol": string(rule.Protocol)}
	if rule.Port != nil {
		out["port"] = *rule.Port
	}
	if rule.Description != nil {
		out["description"] = *rule.Description
	}
	for name, list := range map[string][]net.IPNet{"sourceIps": rule.SourceIPs, "destinationIps": rule.DestinationIPs} {
		if len(list) == 0 {
			continue
		}
		texts := make([]any, len(list))
		for i, block := range list {
			texts[i] = block.String()
		}
		out[name] = texts
	}
	return out
}

func blocks(texts []string) []net.IPNet {
	out := make([]net.IPNet, 0, len(texts))
	for _, text := range texts {
		if _, block, err := net.ParseCIDR(text); err == nil {
			out = append(out, *block)
		}
	}
	return out
}

func validateBlock(in any) string {
	text, _ := in.(string)
	ip, block, err := net.ParseCIDR(text)
	if err != nil {
		return err.Error()
	}
	if !ip.Equal(block.IP) {
		return fmt.Sprintf("%s is not the start of its block; write %s", text, block)
	}
	return ""
}

func sameBlock(old, wanted any) bool {
	a, _ := old.(string)
	b, _ := wanted.(string)
	_, blockA, errA := net.ParseCIDR(a)
	_, blockB, errB := net.ParseCIDR(b)
	return errA == nil && errB == nil && blockA.String() == blockB.String()
}

func firewallTargets(in []kit.Props) []hcloud.FirewallResource {
	var out []hcloud.FirewallResource
	for _, target := range in {
		if id := target.Int("server"); id != 0 {
			out = append(out, serverTarget(id))
		}
		if selector := target.String("labelSelector"); selector != "" {
			out = append(out, selectorTarget(selector))
		}
	}
	return out
}

func serverTarget(id int64) hcloud.FirewallResource {
	return hcloud.FirewallResource{
		Type: hcloud.FirewallResourceTypeServer, Server: &hcloud.FirewallResourceServer{ID: id},
	}
}

func selectorTarget(selector string) hcloud.FirewallResource {
	return hcloud.FirewallResource{
		Type:          hcloud.FirewallResourceTypeLabelSelector,
		LabelSelector: &hcloud.FirewallResourceLabelSelector{Selector: selector},
	}
}

// moveFirewall takes a firewall off what is only in old and puts it on what is only in wanted.
func moveFirewall(c *call, id int64, old, wanted []hcloud.FirewallResource) error {
	if gone := targetsWithout(old, wanted); len(gone) > 0 {
		actions, _, err := c.Client.Firewall.RemoveResources(c, &hcloud.Firewall{ID: id}, gone)
		if err == nil {
			err = wait(c, actions...)
		}
		if err != nil && !hcloud.IsError(err, hcloud.ErrorCodeNotFound, hcloud.ErrorCodeFirewallResourceNotFound,
			hcloud.ErrorCodeFirewallAlreadyRemoved) {
			return err
		}
	}
	if added := targetsWithout(wanted, old); len(added) > 0 {
		actions, _, err := c.Client.Firewall.ApplyResources(c, &hcloud.Firewall{ID: id}, added)
		if err == nil {
			err = wait(c, actions...)
		}
		if err != nil && !hcloud.IsError(err, hcloud.ErrorCodeFirewallAlreadyApplied) {
			return err
		}
	}
	return nil
}

func targetsWithout(list, without []hcloud.FirewallResource) []hcloud.FirewallResource {
	known := map[string]bool{}
	for _, target := range without {
		known[targetKey(target)] = true
	}
	var out []hcloud.FirewallResource
	for _, target := range list {
		if !known[targetKey(target)] {
			out = append(out, target)
		}
	}
	return out
}

func targetKey(target hcloud.FirewallResource) string {
	if target.Server != nil {
		return formatID(target.Server.ID)
	}
	return target.LabelSelector.Selector
}
