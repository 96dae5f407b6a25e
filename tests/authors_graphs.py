"""The authors' published graphs as their JSON files hold them, built from the names, sizes and constants alone, and
`.params` files for them with random values.

Five are of the kind before NNVM: attributes under "param", no auxiliary states, operator `Reorder`. IGCV3's is NNVM's.
"""

import json

import numpy as np

NAMES = (
    "resnet18_w64",
    "resnet18_w69",
    "resnet18_igc_l4m32",
    "resnet18_igc_l16m16",
    "resnet18_igc_l100m2",
    "igcv3_1.0",
)


class Graph:
    """Nodes are added in order of execution; each method returns the node's number."""

    def __init__(self, nnvm=False):
        self.nodes, self.shapes, self.nnvm, self.width = [], {}, nnvm, {}

    def add(self, op, name, inputs=(), channels=None, **attributes):
        entry = {"op": op, "name": name, "inputs": [[i, 0, 0] if self.nnvm else [i, 0] for i in inputs]}
        texts = {key: str(value) for key, value in attributes.items()}
        if self.nnvm:
            if texts:
                entry["attr"] = texts
        else:
            entry.update(param=texts, backward_source_id=-1)
        self.nodes.append(entry)
        number = len(self.nodes) - 1
        self.width[number] = channels or (self.width[inputs[0]] if inputs else 0)
        return number

    def parameter(self, name, shape, aux=False):
        self.shapes[("aux:" if aux else "arg:") + name] = shape
        return self.add("null", name) if self.nnvm or not aux else None

    def data(self):
        return self.add("null", "data", channels=3)

    def conv(self, x, name, width, kernel, stride=1, groups=1):
        weight = self.parameter(f"{name}_weight", (width, self.width[x] // groups, kernel, kernel))
        return self.add(
            "Convolution",
            name,
            [x, weight],
            width,
            num_filter=width,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            pad=(kernel // 2,) * 2,
            num_group=groups,
            no_bias=True,
        )

    def bn(self, x, name):
        inputs = [x] + [self.parameter(f"{name}_{part}", (self.width[x],)) for part in ("gamma", "beta")]
        for part in ("moving_mean", "moving_var"):
            number = self.parameter(f"{name}_{part}", (self.width[x],), aux=True)
            inputs += [number] if self.nnvm else []
        if self.nnvm:
            return self.add("BatchNorm", name, inputs, eps="1e-05", fix_gamma=False)
        return self.add(
            "BatchNorm", name, inputs, eps="2e-005", fix_gamma=False, momentum="0.9", use_global_stats=False
        )

    def relu(self, x, name):
        return self.add("Activation", name, [x], act_type="relu")

    def reorder(self, x, name, branches):
        return self.add("Reorder", name, [x], branch_factor=branches, workspace=1024)  # as in those of L4M32, L16M16

    def plus(self, a, b, name):
        return self.add("elemwise_add" if self.nnvm else "_Plus", name, [a, b])

    def classifier(self, x, fc="fc_score", **pooling):
        x = self.add(
            "Flatten", "flatten", [self.add("Pooling", "global_pool", [x], kernel=(7, 7), pool_type="avg", **pooling)]
        )
        weight, bias = (
            self.parameter(f"{fc}_{part}", shape)
            for part, shape in (("weight", (1000, self.width[x])), ("bias", (1000,)))
        )
        x = self.add("FullyConnected", fc, [x, weight, bias], num_hidden=1000)
        return self.add("SoftmaxOutput", "softmax", [x, self.add("null", "softmax_label")])

    def dict(self):
        arguments = [i for i, node in enumerate(self.nodes) if node["op"] == "null"]
        head = len(self.nodes) - 1
        if not self.nnvm:
            return {"nodes": self.nodes, "arg_nodes": arguments, "heads": [[head, 0]]}
        return {
            "nodes": self.nodes,
            "arg_nodes": arguments,
            "node_row_ptr": list(range(len(self.nodes) + 1)),
            "heads": [[head, 0, 0]],
            "attrs": {"mxnet_version": ["int", 1100]},
        }


def resnet18(width):
    graph = Graph()
    x = graph.conv(graph.data(), "g0", width, 7, 2)
    x = pool(graph, graph.relu(graph.bn(x, "g0_bn"), "g0_relu"))
    for number, (name, stage, stride) in enumerate(blocks()):
        channels, shortcut = width << stage, x
        if stride == 2:
            shortcut = graph.bn(graph.conv(x, f"{name}_proj", channels, 1, 2), f"{name}_proj_bn")
        x = graph.bn(graph.conv(x, f"{name}_conv1", channels, 3, stride), f"{name}_conv1_bn")
        x = graph.conv(graph.relu(x, f"{name}_conv1_relu"), f"{name}_conv2", channels, 3)
        x = graph.plus(shortcut, graph.bn(x, f"{name}_conv2_bn"), f"_plus{number}")
        x = graph.relu(x, f"{name}_relu")
    graph.classifier(x)
    return graph


def resnet18_igc(stem, stages, layers=("conv1", "conv2")):
    """stages: (L, M) of each."""
    graph = Graph()
    x = graph.conv(graph.data(), "g0_conv", stem, 7, 2)
    x = pool(graph, graph.relu(graph.bn(x, "g0_bn"), "g0_relu"))
    for number, (name, stage, stride) in enumerate(blocks()):
        (L, M), shortcut = stages[stage], x
        if graph.width[x] != L * M:
            shortcut = graph.conv(x, f"{name}_proj_conv", L * M, 1, stride, L)
            shortcut = graph.bn(shortcut, f"{name}_proj_bn")
        for layer, step in zip(layers, (stride, 1)):
            title = f"{name}_{layer}"
            x = graph.reorder(graph.conv(x, f"{title}_conv1", L * M, 3, step, L), f"{title}_reorder1", L)
            x = graph.reorder(graph.conv(x, f"{title}_conv2", L * M, 1, 1, M), f"{title}_reorder2", M)
            x = graph.bn(x, f"{title}_bn")
            if layer == layers[0]:
                x = graph.relu(x, f"{title}_relu")
        x = graph.relu(graph.plus(shortcut, x, f"_plus{number}"), f"{name}_relu")
    graph.classifier(x)
    return graph


def blocks():
    return [
        (f"g{stage + 1}_b{block}", stage, 2 if stage and block == 1 else 1) for stage in range(4) for block in (1, 2)
    ]


def pool(graph, x):
    return graph.add(
        "Pooling", "g0_pool", [x], kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", global_pool=False
    )


def igcv3():
    graph, counter = Graph(nnvm=True), [0, 0]

    def unit(x, name, width, kernel=1, stride=1, groups=1, relu6=False):
        x = graph.bn(graph.conv(x, f"{name}-conv2d", width, kernel, stride, groups), f"{name}-batchnorm")
        return graph.add("clip", f"{name}-relu6", [x], a_min="0", a_max="6") if relu6 else x

    def permutation(x):
        first, second = counter[0], counter[1]
        counter[0], counter[1] = first + 4, second + 2  # the code builds a second one of each block and drops it
        x = graph.add("Reshape", f"reshape{first}", [x], shape=(0, -4, 2, -1, -2))
        x = graph.add("SwapAxis", f"swapaxes{second}", [x], dim1=1, dim2=2)
        return graph.add("Reshape", f"reshape{first + 1}", [x], shape=(0, -3, -2))

    x = unit(graph.data(), "first-3x3-conv", 32, 3, 2, relu6=True)
    for s, (t, width, count, stride) in enumerate(
        ((1, 16, 1, 1), (6, 24, 4, 2), (6, 32, 6, 2), (6, 64, 8, 2), (6, 96, 6, 1), (6, 160, 6, 2), (6, 320, 1, 1))
    ):
        for i in range(count):
            name, before, expanded = f"seq-{s}-block{i}", x, graph.width[x] * t
            x = permutation(unit(x, f"{name}-exp", expanded, groups=2))
            x = unit(x, f"{name}-depthwise", expanded, 3, 1 if i else stride, expanded, relu6=True)
            x = unit(x, f"{name}-linear", width, groups=2)
            x = graph.plus(before, x, f"{name}-shortcut") if i else x
    graph.classifier(unit(x, "last-1x1-conv", 1280, relu6=True), "fc", global_pool=True)
    return graph


def published(name):
    """The Graph of the authors' checkpoint called `name` here."""
    if name == "igcv3_1.0":
        return igcv3()
    if name.startswith("resnet18_w"):
        return resnet18(int(name[len("resnet18_w") :]))
    L, M = {"resnet18_igc_l4m32": (4, 32), "resnet18_igc_l16m16": (16, 16), "resnet18_igc_l100m2": (100, 2)}[name]
    if M == 2:
        return resnet18_igc(L, [(L << s, M) for s in range(4)])
    return resnet18_igc(L * M, [(L, M << s) for s in range(4)])


def random_arrays(graph, seed=0):
    """{name with arg: or aux: : float32 array}; sizes that keep a deep network's values near 1."""
    rng, arrays = np.random.default_rng(seed), {}
    for name, shape in graph.shapes.items():
        if name.endswith(("_gamma", "_var")):
            # What is added up by residual blocks again and again must be small.
            small = name.endswith(("conv2_bn_gamma", "igc2_bn_gamma", "linear-batchnorm_gamma"))
            values = rng.uniform(0.5, 1.5, shape) * (0.3 if small else 1)
        elif len(shape) > 1:
            values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            values = rng.normal(0, 0.2, shape)
        arrays[name] = values.astype(np.float32)
    return arrays


def with_stock_operators(document):
    """The JSON text of the graph with `Reorder` in MXNet's own operators, which the stock wheel reads."""
    nodes, new_number = [], {}
    for number, node in enumerate(document["nodes"]):
        inputs = [[new_number[i], *rest] for i, *rest in node["inputs"]]
        if node["op"] != "Reorder":
            nodes.append({**node, "inputs": inputs})
        else:
            name, b = node["name"], node["param"]["branch_factor"]
            for op, title, param in (
                ("Reshape", f"{name}_split", {"shape": f"(0,-4,{b},-1,-2)"}),
                ("SwapAxis", f"{name}_swap", {"dim1": "1", "dim2": "2"}),
                ("Reshape", name, {"shape": "(0,-3,-2)"}),
            ):
                nodes.append({"op": op, "name": title, "param": param, "inputs": inputs, "backward_source_id": -1})
                inputs = [[len(nodes) - 1, 0]]
        new_number[number] = len(nodes) - 1
    return json.dumps(
        {
            **document,
            "nodes": nodes,
            "arg_nodes": [new_number[i] for i in document["arg_nodes"]],
            "heads": [[new_number[i], *rest] for i, *rest in document["heads"]],
        }
    )
