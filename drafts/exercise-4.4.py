@exercise("4.4")
def one_mode(answer):
    x = (torch.arange(400, dtype=torch.float64) + 0.5) / 200 - 1
    kernel = (relu_gram(1.0, x) + relu_gram(1.0, -x)) / 4  # the mean over w = ±1 and b
    rate = training_modes(kernel, 7).rates[6].item()
    nats = 3 * 8 / (2 * 30**2) * 0.5**2 / rate
    given = numbers(answer, shape=()).item()
    for wrong, hint in (
        (nats, "That is the exponent, −ln P: how many decades is it?"),
        (-nats / math.log(10), "The size is right; a cost, −log₁₀ P, is positive."),
        (4 * nats / math.log(10), "h need not be f: the cheapest h that is good enough is nearer to 0."),
        (nats / 4 / math.log(10), "K is a mean over all neurons, with weight 1/4 on dw db: is yours a sum?"),
        (2 * nats / math.log(10), "Is there a ½ in the exponent of your Gaussian?"),
    ):
        if abs(given - wrong) < 0.01 * abs(wrong):
            raise AssertionError(hint)
    close(
        given,
        nats / math.log(10),
        rtol=0.01,
        hint="All of h should be in mode 7: which multiple of u_7 is at distance ε from it? Divide "
        "its square by λ_7 (relu_modes.rates[6]).",
    )
    return "One mode, one number: rarity is the square of what is asked over what is offered."
