"""Small cases of the benchmarks of networks and of deformable convolution."""

from benchmarks import bench_deform_conv, bench_networks


def tiny_network(**kwargs):
    fields = (("depth", 3), ("features", 4))
    return bench_networks.Case("dncnn", "", (2, 8, 8, 1), fields=fields, **kwargs)


def tiny_operation(**kwargs):
    return bench_deform_conv.Case("small", 1, 6, 8, 2, **kwargs)
