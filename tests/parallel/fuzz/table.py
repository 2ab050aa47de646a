"""What a training loop may do to a batch: one expression a line, by the kinds of values it takes.

Kinds: f floats of any shape, b booleans, m floats (N, C), n labels (N,), w weights (C, C), s a number or
a tensor of one, r a random.Random.  In a group that ends in * the name `how` is each reduction in turn.
"""

LETTERS = {
    "f": "x",
    "ff": "a, b",
    "fff": "a, b, c",
    "bb": "a, b",
    "b": "m",
    "bf": "m, x",
    "fr": "x, r",
    "m": "x",
    "mm": "a, b",
    "mw": "x, w",
    "n": "y",
    "nw": "y, w",
    "mn": "x, y",
    "mmm": "a, p, n",
    "s": "s",
    "ss": "a, b",
    "sf": "s, x",
}
EXPRESSIONS = {
    "b": """
        torch.logical_not(m)
        torch.any(m)
        torch.all(m)
        torch.count_nonzero(m)
        ~m
        m.sum()
        m.double().mean()
        m.long()
        m.float().double()
        m.sum().item()
        m.nonzero()
    """,
    "f": """
        torch.abs(x)
        torch.neg(x)
        torch.tanh(x)
        torch.sigmoid(x)
        torch.relu(x)
        torch.square(x)
        torch.sign(x)
        torch.floor(x)
        torch.exp(x)
        F.gelu(x)
        F.silu(x)
        F.leaky_relu(x)
        F.softplus(x)
        x.clamp(-0.5, 0.5)
        x.clamp_min(0.1)
        -x
        x + 1
        2 - x
        x * 0.5
        1 / (x * x + 1)
        x ** 2
        x / 3
        x // 0.3
        torch.clone(x)
        torch.detach(x)
        x.contiguous()
        x.float().double()
        torch.nan_to_num(x)
        x.data
        x > 0
        x < 0.3
        torch.isnan(x)
        x == x.max()
        torch.sum(x)
        torch.mean(x)
        torch.max(x)
        torch.min(x)
        torch.std(x)
        torch.var(x)
        torch.norm(x)
        torch.prod(x)
        torch.median(x)
        torch.logsumexp(x, 0)
        x.norm(p=1)
        x.view_as(x)
        x.new_tensor([1.0, 2.0])
        x.type_as(x)
        x.expand_as(x)
        x.unsqueeze(-1).expand(*x.shape, 2)
        torch.broadcast_to(x, (2, *x.shape))
        x.swapaxes(0, -1)
        torch.atleast_2d(x)
        x.narrow(0, 0, 1)
        x.narrow(-1, 0, 1)
        x.select(0, 0)
        x.select(-1, 0)
        x.index_select(0, torch.tensor([0, 0]))
        x.take(torch.tensor([0]))
        x.unfold(0, 1, 1)
        torch.mean(x, dim=0, keepdim=True)
        torch.sum(x, -1)
        torch.max(x, -1)[0]
        torch.max(x, 0)[1]
        torch.split(x, 1)[0]
        torch.tensor_split(x, 2)[1]
        torch.numel(x)
        x.dtype
        x.device.type
        x.requires_grad
        x.dim()
        bool((x > 0).any())
    """,
    "m": """
        x[0].zero_() if not x.requires_grad else x[0]
        x[:, 0].add_(1) if not x.requires_grad else x[:, 0]
        x.data.mul_(0.9)
        torch.autograd.grad((x * x).sum(), x)[0] if x.requires_grad else x.requires_grad
        torch.autograd.grad(x.pow(3).mean(), x, create_graph=True)[0] if x.requires_grad else x.is_leaf
        torch.cat([row.unsqueeze(0) for row in x])
        torch.stack([row.sum() for row in x])
        torch.stack(list(x))
        torch.stack([x[i] * i for i in range(len(x))])
        [tuple(row.shape) for row in x]
        torch.tensor([row.max().item() for row in x])
        x.apply_(abs) if not x.requires_grad else abs(x)
        x.argmax()
        x.flatten().topk(2)[0]
        x.flatten()[::3]
        x.reshape(-1)[x.reshape(-1) > 0].sum()
        torch.nn.utils.rnn.pad_sequence([x[0], x[0, :2]])
        torch.block_diag(x, x)
        torch.kron(x, x[:1])
        torch.meshgrid(x[:, 0], x[:, 1], indexing='ij')[0]
        torch.combinations(x[:, 0])
        torch.vander(x[:, 0].detach(), 2)
        nn.Identity()(x)
        nn.Softmax(dim=1)(x)
        nn.LayerNorm(C, elementwise_affine=False)(x)
        nn.BatchNorm1d(C, affine=False, dtype=torch.float64)(x)
        nn.Flatten()(x)
        nn.Sequential(nn.Tanh(), nn.ReLU())(x)
        nn.Linear(C, C, dtype=torch.float64)(x)
        nn.Linear(C, 1, dtype=torch.float64)(x).squeeze()
        nn.Linear(C, 1, dtype=torch.float64)(x).squeeze(1)
        nn.Linear(C, 2, dtype=torch.float64)(x).argmax(1)
        nn.Conv1d(1, 2, 3, dtype=torch.float64)(x.unsqueeze(1))
        nn.LSTM(C, 3, batch_first=True, dtype=torch.float64)(x.unsqueeze(1))[0]
        nn.GRU(C, 3, dtype=torch.float64)(x.unsqueeze(0))[0]
        nn.GRU(C, 3, dtype=torch.float64)(x)[0]
        nn.MultiheadAttention(C, 2, batch_first=True, dtype=torch.float64)(*[x.unsqueeze(1)] * 3)[0]
        nn.MultiheadAttention(C, 2, dtype=torch.float64)(*[x.unsqueeze(1)] * 3)[0]
        nn.MultiheadAttention(C, 2, dtype=torch.float64)(x, x, x)[0]
        x.T
        x.t() @ x
        x @ x.T
        x.permute(1, 0)
        torch.cov(x.T)
        torch.corrcoef(x.T)
        torch.cdist(x, x)
        torch.pdist(x)
        F.cosine_similarity(x, x.flip(0))
        F.normalize(x)
        F.normalize(x, dim=0)
        torch.linalg.norm(x, dim=1)
        torch.linalg.vector_norm(x)
        x.unsqueeze(1) - x.unsqueeze(0)
        x[0]
        x[-1]
        x[1:]
        x[:2]
        x[::2]
        x[:, 0]
        x[:, 1:3]
        x[..., -1]
        x[None]
        x[:, None, :]
        x[torch.tensor([0])]
        x[torch.randperm(len(x))]
        x[[0, -1]]
        x[:, [0, 2]]
        x[x[:, 0] > 0]
        x[x > 0]
        x[len(x) // 2:]
        x[:x.size(0) // 2]
        x[x[:, 0].argsort()]
        torch.cat([x, x])
        torch.cat([x, x], 1)
        torch.stack([x, -x])
        torch.stack([x, x], dim=1)
        x.chunk(2)[0]
        x.chunk(2, dim=1)[1]
        x.split(2)[0]
        x.split([1, 3], dim=1)[1]
        x.unbind(1)[0]
        x.unbind(0)[0]
        x.repeat(2, 1)
        x.repeat(1, 2)
        x.expand(3, *x.shape)
        x.repeat_interleave(2, 0)
        x.repeat_interleave(2, dim=1)
        x.tile(2)
        torch.vstack([x, x])
        torch.hstack([x, x])
        sum((float(row.sum()) for row in x))
        [round(v, 5) for v in x[:, 0].tolist()]
        x.detach().numpy().mean(axis=0)
        x.detach().cpu().numpy().std()
        torch.tensor(x.tolist())
        x.numel()
        tuple(x.size())
        torch.tensor([x.sum(), x.mean()])
        torch.quantile(x, 0.5)
        torch.quantile(x, 0.25, dim=0)
        x.histc(5)
        torch.unique((x.detach() * 2).round())
        torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0], dtype=x.dtype), x.detach())
        x.cummax(0)[0]
        x.logcumsumexp(0)
        torch.trapz(x)
        F.pad(x, (1, 1))
        F.pad(x, (0, 0, 1, 1))
        F.softmax(x)
        F.glu(x)
        F.dropout(x, 0.5)
        x + torch.randn_like(x)
        x * torch.randn(C, dtype=x.dtype)
        x + torch.randn(x.shape, dtype=x.dtype)
        x + torch.rand(len(x), 1, dtype=x.dtype)
        torch.bernoulli(x.sigmoid())
        torch.multinomial(x.softmax(1), 1)
        torch.normal(x.detach(), 1.0)
        x.detach().clone().uniform_()
        x.new_zeros(len(x), 2)
        torch.zeros_like(x) + 1
        torch.ones(x.shape[0])
        torch.arange(x.shape[0])
        x.clone().add_(1)
        x.clone().mul_(x)
        written(x, 0, 1.0)
        written(x, (slice(None), 1), x[:, 0])
        written(x, x > 0, 0.5)
        x.clone().zero_()
        x.clone().clamp_(0, 1)
        x.clone().index_fill_(0, torch.tensor([0]), 5.0)
        x.clone().masked_fill_(x > 0, -1)
        x.clone().sub_(x.mean(0)).div_(x.std(0) + 1)
        x - x.mean(0)
        (x - x.mean()) / (x.std() + 1e-05)
        x - x.mean(1, keepdim=True)
        x / x.sum(1, keepdim=True).abs().clamp_min(1)
        x - x.max()
        (x - x.amin(0)) / (x.amax(0) - x.amin(0) + 1)
        x.var(0, unbiased=False)
        x.var(1, correction=0)
        torch.var_mean(x, 0)[1]
        torch.std_mean(x)[0]
        torch.aminmax(x)[1]
        x.nanmean()
        x.nansum(0)
        torch.linalg.svdvals(x)
        torch.linalg.matrix_norm(x)
        torch.trace(x.T @ x)
        x.diagonal()
        torch.tril(x)
        torch.outer(x[:, 0], x[:, 1])
        x.sum()
    """,
    "n": """
        F.one_hot(y, C)
        y.bincount(minlength=C)
        y.unique()
        y.float().double()
        y == 1
        y.tolist()
        (y == y[0]).sum()
        y.unsqueeze(0) == y.unsqueeze(1)
        torch.histc(y.double(), C)
        [int((y == c).sum()) for c in range(C)]
        sum((v.item() for v in y))
        y.numpy().sum()
        set(y.tolist())
        y.max().item()
        len(y)
        list(y.shape)
        f'{y.double().mean():.4f}'
        str(y)
        y % 2
        y.cumsum(0)
    """,
    "s": """
        s.item() if hasattr(s, 'item') else s
        float(s)
        s * 2
        s + 1
        s / 3
        s ** 2
        torch.sqrt(abs(s) + 1)
        -s
        s > 0
        f'{float(s):.5f}'
        s.detach() if hasattr(s, 'detach') else s
        bool(s > 0.1)
        round(float(s), 4)
        1 / (1 + abs(s))
        torch.as_tensor(s).exp().clamp(max=10)
        s.tolist() if hasattr(s, 'tolist') else s
    """,
    "bb": """
        torch.logical_and(a, b)
        torch.logical_or(a, b)
        a & b
        a | b
        a ^ b
    """,
    "bf": """
        x[m]
        torch.masked_select(x, m)
        x.masked_fill(m, 0.0)
        torch.where(m, x, 0.0)
        x * m
    """,
    "ff": """
        torch.add(a, b)
        torch.sub(a, b)
        torch.mul(a, b)
        torch.maximum(a, b)
        torch.minimum(a, b)
        a / (b.abs() + 1)
        a - b
        torch.hypot(a, b)
        torch.add(a, b, alpha=0.3)
        torch.lerp(a, b, 0.25)
        torch.where(a > b, a, b)
        torch.gt(a, b)
        torch.lt(a, b)
        torch.eq(a, b)
        torch.ne(a, b)
        a >= b
        a <= b
    """,
    "fr": """
        x.sum(dim=dim_of(x, r))
        x.mean(dim=dim_of(x, r))
        x.amax(dim=dim_of(x, r))
        x.amin(dim=dim_of(x, r))
        x.std(dim=dim_of(x, r))
        x.var(dim=dim_of(x, r))
        x.prod(dim=dim_of(x, r))
        x.argmax(dim=dim_of(x, r))
        x.argmin(dim=dim_of(x, r))
        x.cumsum(dim=dim_of(x, r))
        x.softmax(dim=dim_of(x, r))
        x.log_softmax(dim=dim_of(x, r))
        x.logsumexp(dim=dim_of(x, r))
        x.norm(dim=dim_of(x, r))
        x.sum(dim=dim_of(x, r), keepdim=True)
        x.mean(dim=dim_of(x, r), keepdim=True)
        x.amax(dim=dim_of(x, r), keepdim=True)
        x.amin(dim=dim_of(x, r), keepdim=True)
        x.std(dim=dim_of(x, r), keepdim=True)
        x.var(dim=dim_of(x, r), keepdim=True)
        x.prod(dim=dim_of(x, r), keepdim=True)
        x.argmax(dim=dim_of(x, r), keepdim=True)
        x.argmin(dim=dim_of(x, r), keepdim=True)
        x.logsumexp(dim=dim_of(x, r), keepdim=True)
        x.norm(dim=dim_of(x, r), keepdim=True)
        x.max(dim_of(x, r)).values
        x.max(dim_of(x, r))[1]
        x.min(dim_of(x, r))[0]
        x.sort(dim_of(x, r))[0]
        x.sort(dim=dim_of(x, r), descending=True)[1]
        x.argsort(dim_of(x, r))
        x.topk(r.choice([1, 2]), dim=dim_of(x, r))[0]
        x.topk(1, dim=dim_of(x, r)).indices
        x.kthvalue(1, dim=dim_of(x, r))[0]
        x.flip(dim_of(x, r))
        x.roll(1, dim_of(x, r))
        x.diff(dim=dim_of(x, r))
        x.unsqueeze(dim_of(x, r))
        x.squeeze()
        x.transpose(dim_of(x, r), dim_of(x, r))
        x.movedim(0, -1)
        x.sum(dim=(0, -1))
        x.mean((0,))
        x.flatten()
        x.flatten(1)
        x.reshape(-1)
        x.view(x.shape[0], -1)
        x.reshape(x.size(0), -1, 1)
        x.view(len(x), -1)
        x.reshape(-1, 2)
        x.ravel()
    """,
    "mm": """
        torch.cat([a, b])
        torch.cat((a, b), dim=-1)
        torch.stack([a, b], 1)
        (a * b).sum(1)
        torch.einsum('nc,nc->n', a, b)
        torch.einsum('nc,md->nm', a, b)
        torch.einsum('nc,nd->cd', a, b)
        torch.bmm(a.unsqueeze(1), b.unsqueeze(2)).squeeze()
        a @ b.T
        F.pairwise_distance(a, b)
        torch.dist(a, b)
        torch.allclose(a, b)
        torch.equal(a, b)
        F.cosine_similarity(a, b)
        F.kl_div(a.log_softmax(1), b.softmax(1), reduction='batchmean')
        ((a - b) ** 2).mean()
        ((a - b) ** 2).sum(1).mean()
        ((a - b) ** 2).mean(0).sum()
        (a - b).abs().sum() / len(a)
        torch.sqrt(((a - b) ** 2).mean())
        1 - (a * b).sum() / (a.norm() * b.norm())
        ((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std())
    """,
    "mn": """
        x.gather(1, y.unsqueeze(1))
        x[torch.arange(len(y)), y]
        x[range(len(y)), y]
        torch.zeros(C, C, dtype=x.dtype).index_add(0, y, x)
        torch.zeros(C, C, dtype=x.dtype).scatter_add(0, y.unsqueeze(1).expand(-1, C), x)
        x[y == 1]
        x[y == 1].mean(0)
        (x.argmax(1) == y).sum().item()
        (x.argmax(1) == y).double().mean()
        (x.argmax(dim=1, keepdim=True) == y.view(-1, 1)).sum()
        x.topk(2, 1)[1].eq(y.view(-1, 1)).any(1).sum()
        torch.stack([x[y == c].sum() for c in range(C)])
        x.softmax(1)[:, 1] - y
        x.take_along_dim(y[:, None], 1)
        torch.scatter(x, 1, y.unsqueeze(1), 0.0)
    """,
    "mw": """
        x @ w
        F.linear(x, w)
        torch.einsum('nc,dc->nd', x, w)
        x * w[0]
        x + w.sum()
        F.linear(x, w, w[0])
        torch.addmm(w[0], x, w)
        F.layer_norm(x, (C,), w[0], w[1])
        torch.cat([x, w])
        F.batch_norm(x, None, None, w[0], w[1], training=True)
        (x - w[0]).pow(2).sum(1)
        torch.cdist(x, w).argmin(1)
        torch.matmul(x, w)
        torch.mm(x, w)
    """,
    "nw": """
        w[y]
        F.embedding(y, w)
        w.index_select(0, y)
        w[y].sum(0)
        w[:, y]
    """,
    "sf": """
        x * s
        x + s
        x - s
        x / (abs(s) + 1)
        s - x
        torch.where(x > s, x, s)
    """,
    "ss": """
        a + b
        a - b
        a * b
        a / (abs(b) + 1)
        torch.stack([torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)])
        max(a, b)
        sum([a, b])
    """,
    "fff": """
        torch.addcmul(a, b, c)
        torch.where(a > 0, b, c)
        a * b + c
    """,
    "mm*": """
        F.mse_loss(a, b, reduction=how)
        F.l1_loss(a, b, reduction=how)
        F.smooth_l1_loss(a, b, reduction=how)
        F.huber_loss(a, b, reduction=how)
        F.binary_cross_entropy_with_logits(a, b.sigmoid(), reduction=how)
        F.binary_cross_entropy(a.sigmoid(), b.sigmoid(), reduction=how)
        F.kl_div(a.log_softmax(1), b.softmax(1), reduction=how)
        F.soft_margin_loss(a, b.sign(), reduction=how)
        F.poisson_nll_loss(a, b.abs(), reduction=how)
        F.gaussian_nll_loss(a, b, a * a + 1, reduction=how)
        F.cosine_embedding_loss(a, b, a[:, 0].sign(), reduction=how)
        F.hinge_embedding_loss(a, b.sign(), reduction=how)
        F.margin_ranking_loss(a[:, 0], b[:, 0], a[:, 1].sign(), reduction=how)
    """,
    "mn*": """
        F.cross_entropy(x, y, reduction=how)
        F.nll_loss(F.log_softmax(x, 1), y, reduction=how)
        F.cross_entropy(x, y, reduction=how, label_smoothing=0.1)
        F.cross_entropy(x, y, ignore_index=1, reduction=how)
        F.cross_entropy(x, y, weight=torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=x.dtype), reduction=how)
        F.multi_margin_loss(x, y, reduction=how)
        nn.CrossEntropyLoss(reduction=how)(x, y)
        F.cross_entropy(x, F.one_hot(y, C).double(), reduction=how)
    """,
    "mmm*": """
        F.triplet_margin_loss(a, p, n, reduction=how)
    """,
}
