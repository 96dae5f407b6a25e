"""A small network of each family for images of 32x32, to be tried on 16x16 ones."""

SMALL_IMAGES = tuple(
    (
        "cifar_plain8_w4 cifar_plain_igc8_l3m2 cifar_resnet8_w4 cifar_resnet_igc10_l2m3 "
        "cifar_sumfusion8_l2m3 cifar_gpc5_l2m3 cifar_xception8_c6 cifar_igcv1_8_c6 cifar_igcv2_14_c6 "
        "cifar_igcv2_8_c16 cifar_igcv2star_8_c16 cifar_flat_igc4_l3m2 cifar_flat_igc_relu4_l3m2 "
        "cifar_flat_igc_secondary4_l2m3 cifar_flat_igc_both4_l3m2 cifar_flat_igc_separable4_l3m2 "
        "cifar_flat_igc_bottleneck4_l3m2 cifar_flat_gpc4_l3m2 cifar_flat_xception4_c5 "
        "cifar_flat_igcv2_4_c12k3l4 cifar_flat_igcv2i_4_c18k3 cifar_igcv3_0.2 cifar_igcv3_d0.5 "
        "cifar_mobilenetv2_0.2"
    ).split()
)
