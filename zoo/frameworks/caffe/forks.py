"""What the forks of Caffe have added that says nothing of a deployed network: it is read, passed over, and named.

Sources are the forks' own ``caffe.proto``. What changes the numbers (a ReLU within a convolution, an average that
counts the pad) is not here, so that it is refused as an unknown field.
"""

from __future__ import annotations

from zoo.frameworks.caffe.row import Fields, fields

# Layers that feed a network from files, or that judge what comes out of it.
DATA = {"AnnotatedData", "DenseImageData", "ImageLabelmapData", "ImageSegData", "SegData", "VideoData"}
TRAINING = {
    *("BoxAnnotatorOHEM", "CenterLoss", "DetectionEvaluate", "EvalDetection", "MultiBoxLoss", "RegionLoss"),
    *("SegAccuracy", "SmoothL1Loss", "SmoothL1LossOHEM", "SoftmaxWithLossOHEM"),
}

# Types of the V1 dialect (rbgirshick/fast-rcnn, 2015), by what they are called today; their numbers are not known.
V1_TYPES = {"ROI_POOLING": "ROIPooling", "SMOOTH_L1_LOSS": "SmoothL1Loss"}

_WITH_ENGINE = ("BatchNorm", "Concat", "Dropout", "Eltwise", "InnerProduct")

# Message -> fields, of NVIDIA/caffe, intel/caffe, weiliu89/caffe (branch ssd), yjxiong/caffe and caffe-segnet.
PASSED_OVER: dict[str, Fields] = {
    **{f"{kind}Parameter": fields(Engine="engine") for kind in _WITH_ENGINE},
    "NetParameter": fields(
        Precision="default_forward_type default_backward_type default_forward_math default_backward_math",
        number="global_grad_scale",
        flag="global_grad_scale_adaptive eltwise_mem_sharing",
        text="default_conv_algos_override engine",
        whole="reduce_buckets default_cudnn_math_override",
        count="bn_stats_batch_size",
        block="compile_net_state multinode",
    ),
    "LayerParameter": fields(
        Precision="forward_type backward_type forward_math backward_math",
        flag="debug",
        whole="cudnn_math_override",
        text="engine",
        block="quantization_param multinode mn_grad_compress_param annotated_data_param box_annotator_ohem_param"
        " center_loss_param dense_image_data_param detection_evaluate_param eval_detection_param multibox_loss_param"
        " region_loss_param seg_accuracy_param seg_data_param smooth_l1_loss_param video_data_param",
    ),
    "DataParameter": fields(flag="cache precache shuffle", count="threads parser_threads"),
    "ImageDataParameter": fields(flag="cache precache", count="threads", whole="ignore_label", LabelType="label_type"),
    "TransformationParameter": fields(
        number="rand_resize_ratio_lower rand_resize_ratio_upper vertical_stretch_lower vertical_stretch_upper"
        " horizontal_stretch_lower horizontal_stretch_upper scale_ratios* scale_factors*",
        count="img_rand_resize_lower img_rand_resize_upper",
        whole="max_distort random_seed stride",
        flag="allow_upscale use_gpu_transform fix_crop more_fix_crop multi_scale is_flow",
        block="resize_param noise_param distort_param expand_param emit_constraint random_resize_param"
        " random_aspect_ratio_param",
    ),
    "LossParameter": fields(
        number="class_weighting* label_smoothing pre_fixed_normalizer", flag="weight_by_label_freqs"
    ),
    "DetectionOutputParameter": fields(
        flag="visualize", number="visualize_threshold", text="save_file", SaveOutputParameter="save_output_param"
    ),
}
PASSED_OVER["BatchNormParameter"] |= fields(FillerParameter="filler", count="stats_batch_size")
PASSED_OVER["ConvolutionParameter"] = fields(text="conv_algorithm conv_algos_override")
