"""Every field of an experiment, with its default. Not an experiment itself.

Other files start from ``get_config()`` here and override a few fields. Any field can also be
set on the command line: ``python train.py --config configs/tiny.py --config.steps=20``.
The values that fields take are in the table of ``lcdnet_jax/config/schema.py``. They are checked
before anything is compiled.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the defaults; types are fixed and unknown fields are refused."""
    config = ConfigDict()

    # Every random number (initialization, order, crops, noise) is a pure function of this
    # seed and of the step. Evaluation noise does not depend on it, so that seeds compare.
    config.seed = 0

    # --- network -----------------------------------------------------------------------------
    config.network = ConfigDict()
    # A name known to lcdnet_jax.networks.create.
    config.network.name = "sadnet"
    # Keyword arguments of that network, beside `channels` (from data.channels) and `dtype`: a
    # preset, and fields of its class, which win over the preset. All can be set on the command
    # line, such as --config.network.kwargs.use_context=False.
    config.network.kwargs = ConfigDict({"preset": "base"})
    # Compute type, float32 or bfloat16. Parameters, losses and metrics are always float32.
    config.network.dtype = "float32"

    # --- data --------------------------------------------------------------------------------
    config.data = ConfigDict()
    # Where training images come from (docs/data_sets.md has a table of all data sets):
    #   photos  the color photographs inside scikit-image's wheel; `split` is train or test
    #   folder  `path` holds clean images, or pairs in input/ and target/ (or noisy/ and clean/)
    #           with equal names; for networks that enlarge, target/ is larger by their scale
    #   tfds    `path` is a TFDS name such as "div2k/bicubic_x2", `split` its split, `feature`
    #           the key of the clean image, or "noisy:clean" for pairs. Pairs with real noise
    #           are made by input_pipeline/builders.py: sidd_medium, renoir, polyu; so are those
    #           of gopro and so on below, as "degraded:clean" (dpdd_dual: "left:right:clean")
    #   sidd, renoir, polyu, nam, sidd_validation
    #           pairs with real noise; `path` is the folder of the data set as published, see
    #           input_pipeline/layouts/real_noise.py
    #   fmd     pairs of fluorescence microscopy; `path` is the folder of the data set as published
    #           or of one type in it (TwoPhoton_MICE, test_mix), `feature` the averaging levels,
    #           such as "raw,avg2", or "image" for all five; `split` is train (both halves are
    #           noisy captures of one scene) or test (with the ground truth)
    #   gopro, gopro_gamma, hide, realblur_j, realblur_r, dpdd, dpdd_dual, rain13k
    #           pairs for deblurring and deraining; `path` is the folder of the data set as
    #           published, see input_pipeline/layouts/restoration_pairs.py; `split` is train or
    #           test, of dpdd also val, test_indoor and test_outdoor, of rain13k also Test100,
    #           Rain100H, Rain100L, Test2800 and Test1200. The usual GoPro benchmark is
    #           gopro, without gamma
    #   realsr  pairs for super-resolution; `path` is the folder of the data set as published, see
    #           input_pipeline/layouts/realsr.py; `split` is train_x2, train_x3, train_x4, test_x2,
    #           test_x3 or test_x4
    # Several are joined by commas, all with pairs or all without: source "sidd,renoir" with
    # path "/data/SIDD,/data/RENOIR"; `split` and `feature` then hold for all of them.
    config.data.train = ConfigDict(
        {"source": "photos", "path": "", "split": "train", "feature": "image"}
    )
    # Where the images of periodic evaluation come from, same fields; always full images.
    config.data.eval = ConfigDict(
        {"source": "photos", "path": "", "split": "test", "feature": "image"}
    )
    # 3 for color or 1 for gray. Gray images are repeated, color ones turned to luma. 6 for the
    # two views of a dual-pixel camera (dpdd_dual), left and right, which are restored to 3.
    config.data.channels = 3
    # Side of the square training crop, pixels. Smaller images are reflect-padded to it; at
    # least one image must have a side that long. For super-resolution it is the side of the clean
    # crop, a multiple of the scale, and so are the sides of tiles below where pairs come from disk
    # (whose images must all be as large as the crop).
    config.data.crop = 128
    # Crops are taken anywhere in an image, each image equally often (0); or inside square tiles
    # of this side, one every `tile_stride` pixels, each tile equally often, so that large
    # images count for more.
    config.data.tile = 0
    config.data.tile_stride = 0
    # Every training image is used at each of these scales, from above 0 up to 1 (bicubic, not
    # antialiased), and counts as so many images. Pairs need (1.0,): scaling smooths their noise.
    config.data.scales = (1.0,)
    # Horizontal flip, vertical flip and transposition, each with probability 1/2: all eight
    # orientations, quarter turns among them, are equally likely. Two views are exchanged by a
    # horizontal flip and never transposed.
    config.data.augment = True
    # Decoded training images kept in memory, gigabytes. Images beyond it are decoded anew
    # each time they are drawn. (TFDS images are kept encoded as well, whatever this says.)
    config.data.cache_gb = 4.0
    # What to do when an image fails to decode in mid-training: "stop", or "replace" it by
    # another one (a pure function of seed, example and attempt), counted and reported.
    config.data.on_bad_image = "stop"
    # Where training batches are drawn: "host" (tf.data: crops and turns there, one batch ahead of
    # the device) or "device" (all decoded images lie in the memory of each device, batches are
    # drawn inside the jitted step, TensorFlow is not needed). Either draws from the same
    # distribution, but not the same batches. For "device" all images must fit into `cache_gb`.
    config.data.where = "host"

    # --- degradation -------------------------------------------------------------------------
    config.degradation = ConfigDict()
    # What is done to clean images:
    #   awgn    Gaussian noise
    #   none    nothing: the degraded halves come from disk (sources that hold pairs)
    #   motion, defocus, dual_pixel, rain, camera, jpeg, or several of these joined by "+", in that
    #           order ("motion+camera"); see docs/degradations.md. dual_pixel gives two views, for
    #           data.channels 6
    #   low_resolution
    #           blur, down-sampling, noise and JPEG, of which the option `scale` must be given: that
    #           of a network that enlarges (rcan, rrdb), or any with `enlarge` True for one that
    #           does not (kmsr); see random_low_resolution in
    #           lcdnet_jax/degradations/super_resolution.py. May be joined to the others as well
    config.degradation.kind = "awgn"
    # Options of the latter by kind, where they are not those of the function: with kind "motion"
    # ConfigDict({"motion": {"length": (4.0, 20.0)}}). With "none" they are not used.
    config.degradation.options = ConfigDict()
    # --- of "awgn" ---
    # Noise level in 8-bit units, one value per image drawn uniformly from this range.
    # Equal ends give a network for one level, different ends a blind one.
    config.degradation.sigma_min = 50.0
    config.degradation.sigma_max = 50.0
    # What of the frequencies the noise has: "white" (all of them alike), "low" or "high" (half
    # of the band), "brownian" (white noise after a Gaussian blur). See shape_noise in
    # lcdnet_jax/degradations/noise.py.
    config.degradation.spectrum = "white"
    # --- of all but "none" ---
    # What a degraded file would hold: "float" (unclipped), "clipped" (to [0, 1]) or "8bit"
    # (clipped and rounded to 256 levels). Of several joined by commas, such as "float,8bit", each
    # training image has one, equally often. Periodic evaluation scores under each of them.
    config.degradation.protocol = "float"
    # Where images are degraded in training: "device" (inside the jitted step) or "host" (tf.data;
    # white noise only).
    config.degradation.where = "device"

    # --- stochastic frequency masking --------------------------------------------------------
    # Images of a batch lose a random band of frequencies, see lcdnet_jax/sfm.py. The clean image
    # is masked before it is degraded; with degradation.kind "none", and where the objective is
    # not "supervised", the degraded image is masked. Masking does not clip. Evaluation images
    # are never masked.
    config.sfm = ConfigDict()
    # Probability that an image is masked; the paper has 0.5. 0 = no masking.
    config.sfm.rate = 0.0
    # How bands are drawn: "targeted" (the paper's denoising), "uniform" (its super-resolution)
    # or "random" (each coefficient by itself). `center` and `sigma` of targeted bands are
    # shares of the largest frequency.
    config.sfm.mode = "targeted"
    config.sfm.center = 0.85
    config.sfm.sigma = 0.15
    # Where images are masked: "device" (inside the jitted step) or "host" (tf.data). Noise on
    # the host needs masking on the host, which comes first.
    config.sfm.where = "device"
    # Images that are not drawn for masking stay as they are ("keep") or turn black ("zero"), and
    # the target is the clean image ("clean") or what noise was added to ("masked", for supervised
    # denoising of added noise only). The first are the paper's description, the second what the
    # authors' code comes to.
    config.sfm.unselected = "keep"
    config.sfm.target = "clean"

    # --- optimization ------------------------------------------------------------------------
    # Optimizer steps and images per step, over all devices and hosts together.
    config.steps = 900_000
    config.batch_size = 16
    # Each step runs as this many sequential parts, to save memory. The result is the same,
    # unless the network has batch normalization, whose statistics are then those of a part.
    config.accumulate = 1
    # What the network's output is compared with:
    #   supervised    the clean image (of pairs: the clean half)
    #   noise2noise   a second noisy copy of it, with other noise of the same level; kind "awgn"
    #                 only (for pairs of two captures, "supervised" does just that)
    #   noise2self    the degraded image itself, at one pixel of nine, which the network does not
    #                 see; no clean image is used, and training images without pairs (kind
    #                 "none") are taken for degraded ones; data.eval still needs pairs for scores
    #   gan           the clean image as well, by three losses of which `gan` below has the weights:
    #                 of pixels (`loss`), of features of VGG19, and of a critic that is trained
    #                 beside the network to tell its images from clean ones (ESRGAN). Best begun
    #                 from a supervised run (`init_from`). `data.crop` must be a multiple of 32
    #   ikc_sftmd, ikc_predictor, ikc_corrector
    #                 for the network "ikc", in this order, each from the run of the one before
    #                 (`init_from`): it learns to enlarge when it is told the kernel (by `loss`
    #                 against the clean image), then to guess the kernel, then to correct the guess
    #                 (both by the squared error of the kernel's code). Kind "low_resolution", with
    #                 kernels of the size that the network encodes
    config.objective = "supervised"
    # "l1", "l2" or "charbonnier", mean over all elements; "sse", half the sum of squares of an
    # image, mean over images; or "l1_fft", L1 of pixels plus `fft_weight` times L1 of unnormalized
    # Fourier coefficients, of all scales that the network gives.
    config.loss = "l2"
    config.fft_weight = 0.1
    # Weight of a further loss: "sse" of unnormalized DCT coefficients. 0 = off.
    config.dct_loss_weight = 0.0
    # --- of the objective "gan" ---
    config.gan = ConfigDict()
    # Weights of the losses; 0 = off.
    config.gan.pixel_weight = 0.01
    config.gan.perceptual_weight = 1.0
    config.gan.critic_weight = 0.005
    # The critic's learning rate in place of the network's, its optimizer being the same otherwise,
    # and the channels of its first layer.
    config.gan.critic_learning_rate = 1e-4
    config.gan.critic_features = 64
    # A file with weights of VGG19, .pth or .safetensors, by torchvision's names
    # ("features.0.weight" and so on), for the perceptual loss. torchvision's own is
    # https://download.pytorch.org/models/vgg19-dcbb9e9d.pth. "" = none, for perceptual_weight 0.
    config.gan.vgg = ""
    config.optimizer = ConfigDict()
    # Adam with betas (0.9, `beta2`) and eps 1e-8.
    config.optimizer.learning_rate = 1e-4
    config.optimizer.beta2 = 0.999
    # "step": multiplied by `decay_factor` every `decay_every` steps.
    # "cosine": falls to `final_fraction` of the peak at the last step.
    config.optimizer.schedule = "step"
    config.optimizer.decay_every = 300_000
    config.optimizer.decay_factor = 0.5
    config.optimizer.final_fraction = 0.0
    # Linear warm-up to the full rate, either schedule: step i of n has (i + 1) / (n + 1) of it.
    # 0 = none.
    config.optimizer.warmup_steps = 0
    # Gradients are scaled down to this global norm. 0 = never.
    config.optimizer.clip_norm = 0.0
    # Decay of the exponential moving average of the parameters. 0 = no average.
    # When there is one, evaluation and inference use it.
    config.ema_decay = 0.0

    # Steps in a row with a loss or gradient that is not finite which are passed over: the state
    # stays as it is, but for the counts of steps. One more ends the run. 0 = the first one does.
    # A run that is continued counts anew.
    config.skip_nonfinite = 0

    # --- devices -----------------------------------------------------------------------------
    config.parallel = ConfigDict()
    # How the step is spread over all devices of all hosts: "jit" (one program for the global
    # batch, which the compiler divides) or "pmap" (one program for each device's part). The same
    # numbers but for rounding, so a run may go on with the other one, and on other devices.
    config.parallel.strategy = "jit"
    # Parameters, optimizer state and averages are divided among so many devices (of "jit") and
    # gathered for each step, for networks too large for one device. 1 = each device has all.
    config.parallel.state_shards = 1
    # Steps made by one call of the compiled program, so that fast devices need not wait for the
    # host. Steps, reports, evaluations and checkpoints come at multiples of it.
    config.steps_per_call = 1

    # --- start -------------------------------------------------------------------------------
    # The state comes from the first of these that applies: a checkpoint in the working
    # directory; `resume`, another working directory to continue exactly (a copy; that
    # directory is not changed); `init_from`, one whose parameters start a new run at step 0
    # (fine-tuning); a fresh initialization.
    config.resume = ""
    config.init_from = ""

    # --- reports -----------------------------------------------------------------------------
    # Steps between lines of progress, evaluations and checkpoints. The last step always has
    # all three. 0 = only the last step.
    config.log_every = 100
    config.eval_every = 5_000
    config.checkpoint_every = 5_000
    # Checkpoints kept, newest first.
    config.keep_checkpoints = 3
    config.eval = ConfigDict()
    # Noise levels of periodic evaluation, 8-bit units.
    config.eval.sigmas = (50.0,)
    # At most this many images (the first by name). 0 = all.
    config.eval.max_images = 0
    # Images drawn as PNG panels (degraded | restored | clean and a zoomed crop).
    config.eval.panels = 2
    # Image sides are padded up to multiples of this, so that few shapes are compiled.
    config.eval.bucket = 64
    return config
