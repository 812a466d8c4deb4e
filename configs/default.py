"""All fields of an experiment with their defaults.

This file is not an experiment. Other files call ``get_config()`` here and override a few fields.
Any field can also be set on the command line: ``python train.py --config configs/tiny.py
--config.steps=20``. The table in ``lcdnet_jax/config/schema.py`` has the valid values of each
field. Values are checked before anything is compiled.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the defaults. Types are fixed and unknown fields are refused."""
    config = ConfigDict()

    # Every random number (initialization, order, crops, noise) is a pure function of this seed and
    # of the step. Evaluation noise does not depend on it, so that scores of runs with different
    # seeds can be compared.
    config.seed = 0

    # --- network -----------------------------------------------------------------------------
    config.network = ConfigDict()
    # A name of lcdnet_jax.networks.create.
    config.network.name = "sadnet"
    # Keyword arguments of that network, except `channels` (from data.channels) and `dtype`: a
    # preset, and fields of its class, which override the preset. All can be set on the command
    # line, for example --config.network.kwargs.use_context=False.
    config.network.kwargs = ConfigDict({"preset": "base"})
    # Compute type, float32 or bfloat16. Parameters, losses and metrics are always float32.
    config.network.dtype = "float32"

    # --- data --------------------------------------------------------------------------------
    config.data = ConfigDict()
    # Where training images come from (docs/reference/data_sets.md has a table of all data sets):
    #   photos  the color photographs inside scikit-image's wheel; `split` is train or test
    #   folder  `path` holds clean images, or pairs with equal names in input/ and target/ (or in
    #           noisy/ and clean/); for networks that enlarge, target/ is larger by their scale
    #   tfds    `path` is a TFDS name such as "div2k/bicubic_x2", `split` its split, `feature`
    #           the key of the clean image, or "noisy:clean" for pairs. input_pipeline/builders.py
    #           makes TFDS data sets with real noise (sidd_medium, renoir, polyu) and those of
    #           gopro and so on below, as "degraded:clean" (dpdd_dual: "left:right:clean")
    #   shards  `path` is a folder that input_pipeline/prepare.py has made of any other source. It
    #           gives the same batches, and needs less time and memory for them
    #   sidd, renoir, polyu, nam, sidd_validation
    #           pairs with real noise; `path` is the folder of the data set as published, see
    #           input_pipeline/layouts/real_noise.py
    #   fmd     pairs of fluorescence microscopy; `path` is the folder of the data set as published
    #           or of one type in it (TwoPhoton_MICE, test_mix), `feature` the averaging levels,
    #           such as "raw,avg2", or "image" for all five; `split` is train (both halves are
    #           noisy captures of one scene) or test (with the ground truth)
    #   gopro, gopro_gamma, reds, reds_jpeg, hide, realblur_j, realblur_r, dpdd, dpdd_dual, rain13k
    #           pairs for deblurring and deraining; `path` is the folder of the data set as
    #           published, see input_pipeline/layouts/restoration_pairs.py; `split` is train or
    #           test, for dpdd also val, test_indoor and test_outdoor, for rain13k also Test100,
    #           Rain100H, Rain100L, Test2800 and Test1200, for reds and reds_jpeg train or val. The
    #           usual GoPro benchmark is gopro, without gamma
    #   realsr  pairs for super-resolution; `path` is the folder of the data set as published, see
    #           input_pipeline/layouts/realsr.py; `split` is train_x2, train_x3, train_x4, test_x2,
    #           test_x3 or test_x4
    #   div2k   clean photographs; `path` is the folder with DIV2K_train_HR/ and DIV2K_valid_HR/,
    #           `split` is train or valid
    # Several sources are joined by commas, all with pairs or all without: source "sidd,renoir" with
    # path "/data/SIDD,/data/RENOIR". `split` and `feature` then apply to all of them.
    # `names` chooses images by name: patterns of a shell ("*7", "door_*"), joined by commas; with
    # "!" before the first, all other images. "" = all. A name is that of the file without its
    # suffix; if there are several sources, theirs stands before it ("sidd_0001"). To hold a
    # validation set out of the training images, set names of data.train to "!*7" and of data.eval
    # to "*7", and the other fields of both to the same. Then no image may be in both.
    config.data.train = ConfigDict(
        {"source": "photos", "path": "", "split": "train", "feature": "image", "names": ""}
    )
    # Images of the periodic evaluation, with the same fields. Full images are scored.
    config.data.eval = ConfigDict(
        {"source": "photos", "path": "", "split": "test", "feature": "image", "names": ""}
    )
    # 3 for color, 1 for gray. Gray images are repeated to 3 channels, color images converted to
    # luma. 6 for the left and right view of a dual-pixel camera (dpdd_dual); the output then has 3.
    config.data.channels = 3
    # Side of the square training crop, pixels. Smaller images are padded by reflection; at least
    # one image must have a side of this length. For super-resolution it is the side of the clean
    # crop and must be a multiple of the scale. If pairs for super-resolution come from disk, the
    # sides of tiles below must be multiples of the scale, too, and no image may be smaller than the
    # crop.
    config.data.crop = 128
    # 0: crops are drawn anywhere in an image, each image equally often. Otherwise crops are drawn
    # inside square tiles of this side, one every `tile_stride` pixels, each tile equally often, so
    # that large images are drawn more often.
    config.data.tile = 0
    config.data.tile_stride = 0
    # Scales of every training image, above 0 and at most 1 (bicubic, not antialiased). Each scale
    # counts as one image. Pairs need (1.0,), because scaling smooths their noise.
    config.data.scales = (1.0,)
    # Horizontal flip, vertical flip and transposition, each with probability 1/2, so that all eight
    # orientations are equally likely. For two views, a horizontal flip exchanges the views, and
    # nothing is transposed.
    config.data.augment = True
    # Memory for decoded training images, gigabytes. Images beyond it are decoded each time they are
    # drawn. (TFDS images are kept in encoded form, too, whatever the value.)
    config.data.cache_gb = 4.0
    # Folder on a fast local disk for a temporary file with all decoded images, used if they do not
    # fit into `cache_gb` (`data.where` "host" only). Without it ("") images that do not fit are
    # decoded for every crop. The file is removed when the training ends.
    config.data.cache_dir = ""
    # Memory for encoded training images that are not kept decoded, gigabytes (`data.where` "host"
    # only). As many files, or images in shards, as fit are read at the start and decoded for each
    # crop, so that no disk or bucket is read for them in training.
    config.data.encoded_cache_gb = 0.0
    # What to do about a training image that cannot be used: "stop", or "replace" it. If its header
    # tells (no image, animated, alpha), all such images are named at the start, and left out with
    # "replace". If it fails to decode during training, another image is drawn (a pure function of
    # seed, example and attempt), which is counted and reported.
    config.data.on_bad_image = "stop"
    # Where training batches are drawn: "host" (tf.data crops and flips one batch ahead of the
    # device) or "device" (all decoded images are in the memory of each device, and batches are
    # drawn inside the jitted step; TensorFlow is not needed). Both draw from the same distribution,
    # but not the same batches. For "device" all images must fit into `cache_gb`.
    config.data.where = "host"

    # --- degradation -------------------------------------------------------------------------
    config.degradation = ConfigDict()
    # How clean images are degraded:
    #   awgn    Gaussian noise
    #   none    not at all; degraded images come from disk (sources with pairs)
    #   motion, defocus, dual_pixel, rain, camera, jpeg
    #           one of these, or several joined by "+" and applied in that order
    #           ("motion+camera"); see docs/explanations/degradations.md. dual_pixel gives two
    #           views, for data.channels 6
    #   low_resolution
    #           blur, downsampling, noise and JPEG. The option `scale` is required: the scale of a
    #           network that enlarges (rcan, rrdb), or any scale together with `enlarge` True for a
    #           network that does not (kmsr). See random_low_resolution in
    #           lcdnet_jax/degradations/super_resolution.py. It can also be joined to the others
    config.degradation.kind = "awgn"
    # Options by kind that differ from the defaults of the function, such as
    # ConfigDict({"motion": {"length": (4.0, 20.0)}}). Not used with "none".
    config.degradation.options = ConfigDict()
    # --- for the kind "awgn" ---
    # Range of the noise level, 8-bit units; each image draws one level uniformly. Equal ends train
    # a network for one level, different ends a blind one.
    config.degradation.sigma_min = 50.0
    config.degradation.sigma_max = 50.0
    # Spectrum of the noise: "white", "low" or "high" (half of the band), "brownian" (white noise
    # after a Gaussian blur). See shape_noise in lcdnet_jax/degradations/noise.py.
    config.degradation.spectrum = "white"
    # --- for all kinds except "none" ---
    # Noise protocol of degraded images: "float" (unclipped), "clipped" (to [0, 1]) or "8bit"
    # (clipped and rounded to 256 levels). If several are joined by commas, such as "float,8bit",
    # each training image draws one, all equally likely. Periodic evaluation scores under each of
    # them.
    config.degradation.protocol = "float"
    # Where images are degraded in training: "device" (inside the jitted step) or "host" (tf.data;
    # white noise only).
    config.degradation.where = "device"

    # --- stochastic frequency masking --------------------------------------------------------
    # Masking sets a random band of frequencies of a training image to 0, see lcdnet_jax/sfm.py. The
    # clean image is masked before it is degraded. With degradation.kind "none", or an objective
    # other than "supervised", the degraded image is masked instead. Masked images are not clipped.
    # Evaluation images are never masked.
    config.sfm = ConfigDict()
    # Probability that an image is masked; 0.5 in the paper. 0 = no masking.
    config.sfm.rate = 0.0
    # How bands are drawn: "targeted" (for denoising in the paper), "uniform" or "central", its name
    # in the paper (for super-resolution), or "random" (each coefficient independently). `center`
    # and `sigma` of targeted bands are shares of the largest frequency.
    config.sfm.mode = "targeted"
    config.sfm.center = 0.85
    config.sfm.sigma = 0.15
    # Where images are masked: "device" (inside the jitted step) or "host" (tf.data). If noise is
    # added on the host, masking must be on the host, too, because it comes first.
    config.sfm.where = "device"
    # `unselected`: images that are not masked are unchanged ("keep") or black ("zero"). `target`:
    # the clean image ("clean"), or the masked image to which noise is added ("masked", only for
    # supervised denoising of added noise). "keep" and "clean" follow the paper, "zero" and "masked"
    # the effect of the authors' code.
    config.sfm.unselected = "keep"
    config.sfm.target = "clean"

    # --- mixup -------------------------------------------------------------------------------
    # Mixup replaces a training image by weight * image + (1 - weight) * another image of the batch,
    # inputs and targets alike, after they are degraded (lcdnet_jax/training/mixup.py). The batch is
    # cut into `groups` groups. Each is mixed with probability `rate`, in itself and with one weight
    # of the distribution Beta(`beta`, `beta`). 0 = no mixup. For the objectives "supervised" and
    # "noise2noise".
    config.mixup = ConfigDict({"rate": 0.0, "beta": 1.2, "groups": 1})

    # --- optimization ------------------------------------------------------------------------
    # Optimizer steps; images per step over all devices and hosts together.
    config.steps = 900_000
    config.batch_size = 16
    # Progressive training: the side of the crops and the batch change during the run. The three
    # tuples have an entry for each stage; () = one stage of `data.crop` and `batch_size`. The last
    # stage goes on to the end of the run. `data.crop` and `batch_size` must be the largest of the
    # stages. Each stage is compiled once. Borders between stages must be multiples of
    # `steps_per_call`.
    config.stages = ConfigDict({"steps": (), "crops": (), "batch_sizes": ()})
    # Gradient accumulation: a step runs as this many sequential parts, to save memory. The result
    # is the same, except that batch normalization then uses the statistics of a part.
    config.accumulate = 1
    # Training objective:
    #   supervised    the output is compared with the clean image
    #   noise2noise   the output is compared with a second noisy copy, with independent noise of the
    #                 same level; kind "awgn" only (pairs of two noisy captures train this way with
    #                 "supervised")
    #   noise2self    the output is compared with the degraded image at one pixel of nine, which the
    #                 network does not see. No clean image is used. With kind "none", images of a
    #                 data set without pairs are the degraded images. data.eval still needs pairs
    #                 for scores
    #   gan           three losses, whose weights are in `gan` below: `loss` on pixels, L1 on
    #                 features of VGG19, and a critic that learns to tell restored images from
    #                 clean ones (ESRGAN). Start from a supervised run (`init_from`). `data.crop`
    #                 must be a multiple of 32
    #   ikc_sftmd, ikc_predictor, ikc_corrector
    #                 the three stages of the network "ikc", in this order. Each starts from the run
    #                 of the previous one (`init_from`). SFTMD learns to enlarge with the true
    #                 kernel (`loss` against the clean image), the predictor to estimate the
    #                 kernel, the corrector to correct the estimate (both by the squared error of
    #                 the kernel code). They need the kind "low_resolution", with kernels of the
    #                 size that the network encodes
    config.objective = "supervised"
    # "l1", "l2" or "charbonnier": mean over all elements. "sse": half the sum of squares of an
    # image, mean over images. "psnr": minus the PSNR of an image in dB, mean over images (NAFNet).
    # "l1_fft": L1 of pixels plus `fft_weight` times L1 of unnormalized
    # Fourier coefficients, mean over all output scales of the network.
    config.loss = "l2"
    config.fft_weight = 0.1
    # Weight of an additional loss: "sse" of unnormalized DCT coefficients. 0 = off.
    config.dct_loss_weight = 0.0
    # --- for the objective "gan" ---
    config.gan = ConfigDict()
    # Weights of the losses; 0 = off.
    config.gan.pixel_weight = 0.01
    config.gan.perceptual_weight = 1.0
    config.gan.critic_weight = 0.005
    # Learning rate of the critic, and the channels of its first layer. Otherwise the optimizer of
    # the critic is that of the network.
    config.gan.critic_learning_rate = 1e-4
    config.gan.critic_features = 64
    # File with weights of VGG19 for the perceptual loss, .pth or .safetensors, with torchvision's
    # names ("features.0.weight" and so on). torchvision's file is
    # https://download.pytorch.org/models/vgg19-dcbb9e9d.pth. "" = none, for perceptual_weight 0.
    config.gan.vgg = ""
    config.optimizer = ConfigDict()
    # Adam with betas (0.9, `beta2`) and eps 1e-8. With `weight_decay` it is AdamW: before each
    # step parameters are multiplied by 1 - rate * weight_decay.
    config.optimizer.learning_rate = 1e-4
    config.optimizer.beta2 = 0.999
    config.optimizer.weight_decay = 0.0
    # Whether the decay also applies to biases and other vectors.
    config.optimizer.decay_vectors = True
    # Factor of the learning rate of layers that predict offsets of deformable convolutions (of
    # SADNet). Deformable networks are often trained with 0.1; the paper of SADNet has 1.
    config.optimizer.offset_rate = 1.0
    # "step": the rate is multiplied by `decay_factor` every `decay_every` steps.
    # "cosine": the rate falls to `final_fraction` of the peak at the last step.
    config.optimizer.schedule = "step"
    config.optimizer.decay_every = 300_000
    config.optimizer.decay_factor = 0.5
    config.optimizer.final_fraction = 0.0
    # "cosine_restarts": cycles of `cycle_steps` steps. The rate of a cycle falls from the peak
    # times its `cycle_weights` to its fraction of the peak in `cycle_final_fractions`.
    config.optimizer.cycle_steps = ()
    config.optimizer.cycle_weights = ()
    config.optimizer.cycle_final_fractions = ()
    # Steps of linear warm-up, for any schedule: step i of n has (i + 1) / (n + 1) of the full
    # rate. 0 = none.
    config.optimizer.warmup_steps = 0
    # Steps after which the state of the optimizer was lost and began anew, as between the pieces of
    # benchmarks/train_in_pieces.py, which sets it. A linear warm-up of `reset_warmup_steps` steps
    # follows each; the schedule goes on.
    config.optimizer.resets = ()
    config.optimizer.reset_warmup_steps = 100
    # Gradients are clipped to this global norm. 0 = never.
    config.optimizer.clip_norm = 0.0
    # Decay of the exponential moving average (EMA) of the parameters. 0 = no EMA. Evaluation and
    # inference use the EMA if there is one.
    config.ema_decay = 0.0

    # Number of consecutive steps with a non-finite loss or gradient that are skipped. A skipped
    # step changes nothing but the step counts. One more such step ends the run; with 0 the first
    # one does. The count starts at 0 when a run is continued.
    config.skip_nonfinite = 0

    # --- devices -----------------------------------------------------------------------------
    config.parallel = ConfigDict()
    # How a step is distributed over all devices of all hosts: "jit" (one program for the global
    # batch, which the compiler shards) or "pmap" (one program for the part of each device). Results
    # are equal up to rounding, so a run can be continued with the other one and on other devices.
    # An operator of your own may be faster with "pmap", if XLA computes it on gathered data.
    config.parallel.strategy = "jit"
    # Number of devices over which parameters, optimizer state and EMA are sharded ("jit" only), for
    # networks too large for one device. They are gathered for each step. 1 = no sharding.
    config.parallel.state_shards = 1
    # Steps in one call of the compiled program, so that fast devices do not wait for the host.
    # Steps, reports, evaluations and checkpoints must be multiples of it.
    config.steps_per_call = 1

    # --- start -------------------------------------------------------------------------------
    # The state comes from the first of these that exists: a checkpoint in the working directory;
    # the checkpoint of `resume`, another working directory, which is continued exactly and not
    # changed; the parameters of `init_from`, which start a new run at step 0 (fine-tuning); a
    # random initialization. `init_from` is a working directory, what `lcdnet-jax convert` or
    # `export` wrote, or a name of pretrained weights ("sadnet-photo"). Both may be at gs://.
    config.resume = ""
    config.init_from = ""

    # --- reports -----------------------------------------------------------------------------
    # Steps between progress reports, evaluations and checkpoints. The last step always has all
    # three. 0 = only the last step.
    config.log_every = 100
    config.eval_every = 5_000
    config.checkpoint_every = 5_000
    # Where metrics go besides metrics.jsonl, joined by commas: "tensorboard" (events, with this
    # configuration for the HParams tab) and "wandb" (Weights & Biases, offline unless the variable
    # WANDB_MODE is "online"; needs lcdnet-jax[wandb]). "" = nowhere else.
    config.writers = "tensorboard"
    # Number of newest checkpoints to keep.
    config.keep_checkpoints = 3
    # Also keep the checkpoint with the best periodic evaluation: "psnr" or "ssim", the mean over
    # `eval.sigmas` and protocols; of equal ones the first. Every evaluation then has a checkpoint.
    # data.eval should be images that are held out of the training data, not those of a benchmark.
    # "" = only the newest.
    config.best_metric = ""
    config.eval = ConfigDict()
    # Noise levels of the periodic evaluation, 8-bit units.
    config.eval.sigmas = (50.0,)
    # Largest number of images, the first by name. 0 = all.
    config.eval.max_images = 0
    # Number of images that are written as PNG panels (degraded, restored, clean, with a zoomed
    # crop).
    config.eval.panels = 2
    # Image sides are padded to multiples of this, so that few shapes are compiled. A network that
    # uses the whole image (global_means) gets images padded to its stride instead.
    config.eval.bucket = 64
    return config
